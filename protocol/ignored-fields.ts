/** What of a request was left out or lowered, as the answer's header says it. */

/**
 * `x-graft-ignored: reasoning_effort, messages[].annotations, max_tokens=120`: paths of what was left out, and what was
 * lowered with the value that holds. Places in lists are not told apart, so that a long conversation says it once.
 */
export const IGNORED_HEADER = 'x-graft-ignored';

/** A request header: `true` has fields that nobody knows refused, as OpenAI does. */
export const STRICT_FIELDS_HEADER = 'x-graft-strict-fields';

/** A request has no more fields than that for good reasons; `...` says that there were more. */
const MAX_PATHS = 32;
/** The longest names of real fields are half as long. */
const MAX_PATH_CHARACTERS = 64;
const MORE = '...';
/** Names are the client's own words, and a header is ASCII without commas. */
const UNSAFE = /[^\w.[\]=-]/g;

/** Collects them; each is told once. */
export class IgnoredPaths {
  readonly #paths = new Set<string>();

  /** @param value the one that holds instead, of what was lowered. */
  add(path: readonly PropertyKey[], value?: number): void {
    if (this.#paths.size > MAX_PATHS) return;
    const name = path.reduce<string>((text, key) => {
      if (typeof key === 'number') return `${text}[]`;
      return text === '' ? String(key) : `${text}.${String(key)}`;
    }, '');
    const told = value === undefined ? name : `${name}=${value}`;
    this.#paths.add(told.slice(0, MAX_PATH_CHARACTERS).replace(UNSAFE, '?') || '?');
  }

  list(): string[] {
    return [...this.#paths];
  }
}

/** @param paths of one or several places, each safe in a header. @returns null when there is nothing to say. */
export function writeIgnored(paths: readonly string[]): string | null {
  const all = [...new Set(paths)];
  if (all.length === 0) return null;
  return (all.length > MAX_PATHS ? [...all.slice(0, MAX_PATHS), MORE] : all).join(', ');
}

/** @returns the paths in a header of {@link writeIgnored}. */
export const readIgnored = (header: string | null): string[] =>
  (header ?? '').split(', ').filter((path) => path !== '');
