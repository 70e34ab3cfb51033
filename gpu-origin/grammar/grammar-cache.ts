import type { Lane } from './ports.ts';

/** Compiled grammars that are kept; one with texts in it has 2 to 5 MB on a vocabulary of 49,152. */
export const MAX_GRAMMARS = 64;
/** Their texts together, characters: what they hold grows with it. */
export const MAX_GRAMMARS_CHARACTERS = 2_000_000;

export interface GrammarEntry {
  readonly ebnf: string;
  readonly id: number;
  readonly lane: Lane;
  /** Requests that may still open it, and rows that are open. */
  holders: number;
}

/** Compiled grammars by their text, the least recently used forgotten first, and none that somebody holds. */
export class GrammarCache {
  /** In the order of their last use. */
  readonly #entries = new Map<string, GrammarEntry>();

  find(ebnf: string): GrammarEntry | null {
    const entry = this.#entries.get(ebnf);
    if (entry === undefined) return null;
    this.#entries.delete(ebnf);
    this.#entries.set(ebnf, entry);
    return entry;
  }

  add(params: Pick<GrammarEntry, 'ebnf' | 'id' | 'lane'>): GrammarEntry {
    const entry = { ...params, holders: 0 };
    this.#entries.set(params.ebnf, entry);
    this.#trim(entry);
    return entry;
  }

  hold(entry: GrammarEntry): void {
    entry.holders += 1;
  }

  letGo(entry: GrammarEntry): void {
    entry.holders -= 1;
  }

  /** Nobody holds any of this lane's. */
  isIdle(lane: Lane): boolean {
    return [...this.#entries.values()].every((entry) => entry.lane !== lane || entry.holders === 0);
  }

  /** Forgets all that this lane had; it has forgotten them itself. */
  dropLane(lane: Lane): void {
    for (const [ebnf, entry] of this.#entries) if (entry.lane === lane) this.#entries.delete(ebnf);
  }

  #trim(kept: GrammarEntry): void {
    let characters = 0;
    for (const { ebnf } of this.#entries.values()) characters += ebnf.length;
    for (const [ebnf, entry] of this.#entries) {
      if (this.#entries.size <= MAX_GRAMMARS && characters <= MAX_GRAMMARS_CHARACTERS) return;
      if (entry === kept || entry.holders > 0) continue;
      this.#entries.delete(ebnf);
      characters -= ebnf.length;
      entry.lane.forget(entry.id);
    }
  }
}
