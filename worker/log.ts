import { StoreUnavailable } from './platform/ports.ts';

/** A value of a log line. Never a body, a prompt, a key or other raw client input. */
export type LogField = string | number | boolean | null | undefined;
/** `warning`: graft recovers from it by itself. */
export type LogLevel = 'info' | 'warning' | 'error';

/** Characters of a text: a stack fits, and external text is limited to it as well. */
export const MAX_LOGGED_TEXT = 4_096;

/**
 * Writes one line of JSON, without undefined values. Workers Logs index its fields. The only place in the
 * worker that writes to the log.
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

/** The log fields of a thrown value. */
export const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * For background work, such as work after a response.
 * @returns when it has ended; it never rejects. Failures are logged: an unavailable store as a warning,
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
