/** Which view the address names: all behind the `#`, which never leaves the browser. */
export type View =
  | { readonly at: 'adapters'; readonly name: string | null }
  | { readonly at: 'playground' }
  | { readonly at: 'experiments'; readonly id: string | null }
  | { readonly at: 'new-experiment'; readonly name: string }
  | { readonly at: 'overview' }
  | { readonly at: 'usage' }
  | { readonly at: 'requests' }
  | { readonly at: 'origins' }
  /** By the link that `graft dev` prints. */
  | { readonly at: 'sign-in'; readonly token: string };

/** @param hash such as `#/adapters/medicine/cardiology`; the overview when it is nothing we know. */
export function viewOf(hash: string): View {
  const [head = '', ...rest] = hash
    .replace(/^#?\/?/, '')
    .split('/')
    .map(decoded);
  const tail = rest.join('/');
  switch (head) {
    case 'playground':
      return { at: 'playground' };
    case 'origins':
    case 'usage':
    case 'requests':
      return { at: head };
    case 'sign-in':
      return { at: 'sign-in', token: tail };
    case 'new-experiment':
      return { at: 'new-experiment', name: tail };
    case 'experiments':
      return { at: 'experiments', id: tail === '' ? null : tail };
    case 'adapters':
      return { at: 'adapters', name: tail === '' ? null : tail };
    default:
      return { at: 'overview' };
  }
}

export function hashOf(view: View): string {
  const tail = 'name' in view ? view.name : 'id' in view ? view.id : null;
  const path = (tail ?? '').split('/').map(encodeURIComponent).join('/');
  return `#/${view.at}${path === '' ? '' : `/${path}`}`;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
