/** What the page keeps of its user: two keys, in this tab alone and until it is closed. Nothing goes into a URL or a cookie. */
const NAMES = { admin: 'graft.admin-key', api: 'graft.api-key' } as const;
export type KeyKind = keyof typeof NAMES;

export const storedKey = (kind: KeyKind): string | null => sessionStorage.getItem(NAMES[kind]);

export function storeKey(kind: KeyKind, key: string): void {
  sessionStorage.setItem(NAMES[kind], key);
}

export function forgetKeys(): void {
  for (const name of Object.values(NAMES)) sessionStorage.removeItem(name);
}
