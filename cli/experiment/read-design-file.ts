import { readFile } from 'node:fs/promises';
import { CliError, EXIT } from '../cli-error.ts';

/** @returns the JSON object in `file`. @throws CliError when it cannot be read or holds none. */
export async function readDesignFile(file: string): Promise<Record<string, unknown>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CliError({
      message: `${file} cannot be read (${error.code ?? error.message}).`,
      exitCode: EXIT.usage,
      code: 'file_unreadable',
    });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new CliError({
    message: `${file} does not hold a JSON object; \`graft experiment show <name>\` prints one.`,
    exitCode: EXIT.usage,
    code: 'file_invalid',
  });
}
