/** Whether an answer with these headers is a stream of server-sent events. */
export const isEventStream = (headers: Headers): boolean =>
  headers.get('content-type')?.startsWith('text/event-stream') ?? false;
