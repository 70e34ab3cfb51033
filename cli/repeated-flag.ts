/**
 * citty keeps the last of a flag that is given several times.
 * @param flag without dashes. @returns all of its values, in order.
 */
export function repeatedFlag(rawArgs: readonly string[], flag: string): string[] {
  const ours = beforeRest(rawArgs);
  return ours.flatMap((argument, i) => {
    if (argument.startsWith(`--${flag}=`)) return [argument.slice(flag.length + 3)];
    const value = ours[i + 1];
    return argument === `--${flag}` && value !== undefined ? [value] : [];
  });
}

/** Whether the flag was typed at all. @param flag without dashes. */
export const isFlagGiven = (rawArgs: readonly string[], flag: string): boolean =>
  beforeRest(rawArgs).some((argument) => argument === `--${flag}` || argument.startsWith(`--${flag}=`));

function beforeRest(rawArgs: readonly string[]): readonly string[] {
  const end = rawArgs.indexOf('--');
  return end === -1 ? rawArgs : rawArgs.slice(0, end);
}
