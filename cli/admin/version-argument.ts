import { nameProblem } from '../../protocol/index.ts';
import { usageError } from '../flags.ts';

const VERSION = /^[1-9]\d{0,8}$/;

/** @throws CliError (usage) unless it is a legal name. */
export function parseName(text: string): string {
  const problem = nameProblem(text);
  if (problem !== null) throw usageError(`'${text}': ${problem}.`);
  return text;
}

/** `name` or `name@version`. @throws CliError (usage) when it is neither. */
export function parseReference(text: string): { name: string; version: number | null } {
  const at = text.lastIndexOf('@');
  if (at < 0) return { name: parseName(text), version: null };
  return { name: parseName(text.slice(0, at)), version: parseVersion(text.slice(at + 1), text) };
}

/** @param where it stands, for the error. @throws CliError (usage) when it is no version. */
export function parseVersion(text: string, where: string): number {
  if (!VERSION.test(text)) throw usageError(`${where}: '${text}' is not the number of a version, such as 3.`);
  return Number(text);
}

/** As {@link parseVersion}, for a flag that may not be given; 0 stands for "none". */
export function parseExpect(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return text === '0' ? 0 : parseVersion(text, '--expect');
}
