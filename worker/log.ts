/** A value of a log line. Never a body, a prompt, a key or anything else that a client sent as it stands. */
export type LogField = string | number | boolean | null | undefined;

/**
 * Writes one line of JSON; what is undefined is left out. Workers Logs index its fields.
 * @param event what happened, in snake case.
 */
export function logLine(
  event: string,
  fields: Record<string, LogField>,
  level: 'info' | 'error' = 'error',
): void {
  const line = JSON.stringify({ level, event, ...fields });
  if (level === 'error') console.error(line);
  else console.log(line);
}
