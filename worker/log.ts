import { StoreUnavailable } from './platform/ports.ts';

/** A value of a log line. Never a body, a prompt, a key or anything else that a client sent as it stands. */
export type LogField = string | number | boolean | null | undefined;
/** `warning`: what graft makes up for by itself. */
export type LogLevel = 'info' | 'warning' | 'error';

/** Characters of a text: a stack fits, and what comes from outside is no longer than that either. */
export const MAX_LOGGED_TEXT = 4_096;

/**
 * Writes one line of JSON; what is undefined is left out. Workers Logs index its fields. The only place in the worker
 * that writes to the log.
 * @param event what happened, in snake case.
 */
export function logLine(event: string, fields: Record<string, LogField>, level: LogLevel = 'error'): void {
  const line = JSON.stringify({ level, event, ...fields }, (_, value: unknown) =>
    typeof value === 'string' ? value.slice(0, MAX_LOGGED_TEXT) : value,
  );
  if (level === 'error') console.error(line);
  else if (level === 'warning') console.warn(line);
  else console.log(line);
}

/** What a log line says of something that was thrown. */
export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * For work that nobody waits for, such as what goes on after a response.
 * @returns when it has ended; it never rejects. What failed is in the log: a store that did not answer as a warning,
 * anything else with its stack.
 */
export async function loggingFailure(
  work: Promise<unknown>,
  fields: Record<string, LogField> = {},
): Promise<void> {
  try {
    await work;
  } catch (error) {
    const known = error instanceof StoreUnavailable;
    const { message, stack } = error instanceof Error ? error : new Error(String(error));
    const reason = { reason: message, ...(known ? {} : { stack }) };
    logLine('after_response_failed', { ...fields, ...reason }, known ? 'warning' : 'error');
  }
}
