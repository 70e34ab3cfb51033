import { usageError } from '../flags.ts';

/**
 * @param text `name[=scale],…` as `--with` has it. @returns the request's `adapters`.
 * @throws CliError (usage)
 */
export function parseWith(text: string): { name: string; scale: number }[] {
  return text.split(',').map((entry) => {
    const [name = '', scale = '1', ...rest] = entry.trim().split('=');
    const number = Number(scale);
    if (name === '' || scale.trim() === '' || !Number.isFinite(number) || rest.length > 0)
      throw usageError(`--with takes names and scales, such as style=0.5,tone, and not '${entry}'.`);
    return { name, scale: number };
  });
}
