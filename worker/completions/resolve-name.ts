import { MAX_NAME_LENGTH, nameProblem } from '../../protocol/index.ts';

/** What a client's `model` asks for. */
export type ModelReference =
  | { kind: 'base'; /** null = the default one. */ id: string | null }
  | { kind: 'name'; name: string }
  | { kind: 'version'; name: string; version: number }
  | { kind: 'illegal' };

/** @param baseIds ids of the bases, as far as they are known. */
export function parseModelReference(model: string, baseIds: readonly string[]): ModelReference {
  if (model === 'base') return { kind: 'base', id: null };
  if (baseIds.includes(model)) return { kind: 'base', id: model };
  const at = model.lastIndexOf('@');
  const name = at < 0 ? model : model.slice(0, at);
  if (nameProblem(name) !== null) return { kind: 'illegal' };
  if (at < 0) return { kind: 'name', name };
  const version = model.slice(at + 1);
  if (!/^[1-9]\d{0,8}$/.test(version)) return { kind: 'illegal' };
  return { kind: 'version', name, version: Number(version) };
}

/** @returns the names above `name`, the nearest first. */
export function ancestorsOf(name: string): string[] {
  const ancestors: string[] = [];
  for (let end = name.lastIndexOf('/'); end > 0; end = name.lastIndexOf('/', end - 1))
    ancestors.push(name.slice(0, end));
  return ancestors;
}

/**
 * @returns a name that nobody can have: to ask about it takes what it takes to ask about a missing one. What is asked
 * when a name is missing is asked of this one when the caller may not use the name, so that nobody can time which it is.
 */
export const decoyOf = (name: string): string => `base/${name}`.slice(0, MAX_NAME_LENGTH);
