/**
 * What the page stores of its user: two keys, and the playground's texts, in this tab only and until it is
 * closed. Nothing goes into a URL or a cookie.
 */
const NAMES = { admin: 'graft.admin-key', api: 'graft.api-key' } as const;
export type KeyKind = keyof typeof NAMES;

export const storedKey = (kind: KeyKind): string | null => sessionStorage.getItem(NAMES[kind]);

export function storeKey(kind: KeyKind, key: string): void {
  sessionStorage.setItem(NAMES[kind], key);
}

const PLAYGROUND = 'graft.playground';

export const storedPlayground = (): string | null => sessionStorage.getItem(PLAYGROUND);

/** @param text null = remove. */
export function storePlayground(text: string | null): void {
  try {
    if (text === null) sessionStorage.removeItem(PLAYGROUND);
    else sessionStorage.setItem(PLAYGROUND, text);
  } catch {
    // Storage is full: the value lasts until the next reload.
  }
}

export function forgetAll(): void {
  for (const name of Object.values(NAMES)) sessionStorage.removeItem(name);
  storePlayground(null);
}
