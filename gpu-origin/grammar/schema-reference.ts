import { isMap } from '../../protocol/index.ts';
import { GrammarError } from './ebnf.ts';

/** Follows `#/$defs/name` and other places inside the schema. @throws GrammarError */
export function resolveReference(root: unknown, reference: unknown, path: readonly PropertyKey[]): unknown {
  if (typeof reference !== 'string' || !(reference === '#' || reference.startsWith('#/')))
    throw new GrammarError("must be a place in the schema itself, such as '#/$defs/name'", path);
  let target = root;
  for (const raw of reference.split('/').slice(1)) {
    const key = decoded(raw).replaceAll('~1', '/').replaceAll('~0', '~');
    const inside: unknown = Array.isArray(target)
      ? (target as unknown[])[Number(key)]
      : isMap(target) && Object.hasOwn(target, key)
        ? target[key]
        : undefined;
    if (inside === undefined) throw new GrammarError('leads nowhere', path);
    target = inside;
  }
  return target;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
