/** What an answer's headers say of what served it. */
export interface ServedBy {
  /** `name@version`, or `base`. */
  adapter: string | null;
  inherited: boolean;
  degraded: string | null;
  /** `name@version=scale, …`. */
  composed: string | null;
}

export const servedBy = (headers: Headers): ServedBy => ({
  adapter: headers.get('x-graft-adapter'),
  inherited: headers.get('x-graft-inherited') === 'true',
  degraded: headers.get('x-graft-degraded'),
  composed: headers.get('x-graft-composed'),
});

/** @returns a line for people when something else answered than was asked for, or null. */
export function servedNote(model: string, { adapter, inherited, degraded }: ServedBy): string | null {
  switch (degraded) {
    case 'base':
      return `${model} cannot be had now: the base model answers`;
    case 'ancestor':
      return `${model} cannot be had now: ${adapter} answers`;
    case 'stale':
      return `the registry does not answer: ${adapter} is what was last known`;
    default:
      return inherited ? `there is no ${model} for this key: ${adapter} answers (--strict forbids it)` : null;
  }
}
