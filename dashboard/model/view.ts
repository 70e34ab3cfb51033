/** The view in the address: everything after the `#`, which never leaves the browser. */
export interface View {
  /** As in the table of routes; empty = the first one. */
  readonly at: string;
  /** The view's subject: a name, an id, a token; null = all. */
  readonly about: string | null;
  /** After a `?`, without it: the view's own settings. */
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
