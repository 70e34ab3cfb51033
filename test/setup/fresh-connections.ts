/**
 * `fetch` opens a connection for each request: one that is kept is closed by its server after some seconds, and where the
 * machine or this thread is busy, a request is sent on it all the same and fails.
 */
const DISPATCHER = Symbol.for('undici.globalDispatcher.1');
const holder = globalThis as unknown as Record<symbol, { constructor: new (options: object) => object }>;

const FRESH = Symbol.for('graft.test.fresh-connections');
if (!(FRESH in globalThis)) {
  Object.assign(globalThis, { [FRESH]: true });
  // The first call makes the dispatcher.
  await fetch('data:,');
  const Agent = holder[DISPATCHER]?.constructor;
  if (Agent !== undefined) Object.assign(globalThis, { [DISPATCHER]: new Agent({ pipelining: 0 }) });
}

export {};
