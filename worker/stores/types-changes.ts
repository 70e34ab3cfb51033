/** What ports of changes and lists have in common; part of types.ts. */

/** Who changes something, when and why. */
export interface ChangeNote {
  actor: string;
  /** Unix ms. */
  at: number;
  why?: string | null;
}

export interface Page<T> {
  items: T[];
  /** Pass it back to go on; null at the end. */
  cursor: string | null;
}
