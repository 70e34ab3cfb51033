/** Which view the address names: all behind the `#`, which never leaves the browser. */
export interface View {
  /** As the table of routes calls it; empty = the first of them. */
  readonly at: string;
  /** What it is of: a name, an id, a token; null = of all. */
  readonly about: string | null;
  /** Behind a `?`, without it: what the view itself keeps in its address. */
  readonly query: string;
}

/** @param hash such as `#/adapters/medicine/cardiology` or `#/playground?left=medicine`. */
export function viewOf(hash: string): View {
  const [path = '', ...query] = hash.replace(/^#?\/?/, '').split('?');
  const [at = '', ...rest] = path.split('/').map(decoded);
  const about = rest.join('/');
  return { at, about: about === '' ? null : about, query: query.join('?') };
}

/** @param to.name, to.id what the view is of, whichever it is called. */
export function hashOf(to: {
  at: string;
  name?: string | null;
  id?: string | null;
  query?: URLSearchParams;
}): string {
  const about = to.name ?? to.id ?? '';
  const path = about.split('/').map(encodeURIComponent).join('/');
  const query = to.query?.toString() ?? '';
  return `#/${encodeURIComponent(to.at)}${path === '' ? '' : `/${path}`}${query === '' ? '' : `?${query}`}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
