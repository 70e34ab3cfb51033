/** Regular languages of characters: from expressions to automata in which one character leads to one state. */
import { GrammarError, LAST_CODE_POINT, merged } from './ebnf.ts';
import type { Range } from './alphabet.ts';

export type Expression =
  | { readonly kind: 'set'; readonly ranges: readonly Range[] }
  | { readonly kind: 'sequence' | 'choice'; readonly parts: readonly Expression[] }
  /** `max`: Infinity = any number. */
  | { readonly kind: 'repeat'; readonly part: Expression; readonly min: number; readonly max: number };

export const ANY: Expression = { kind: 'set', ranges: [[0, LAST_CODE_POINT]] };
export const anyNumberOf = (part: Expression): Expression => ({
  kind: 'repeat',
  part,
  min: 0,
  max: Infinity,
});
export const textOf = (text: string): Expression => ({
  kind: 'sequence',
  parts: [...text].map((one) => ({ kind: 'set', ranges: [[one.codePointAt(0)!, one.codePointAt(0)!]] })),
});

export interface State {
  readonly accepts: boolean;
  /** Ranges do not overlap, neither within one nor between them. */
  readonly next: readonly { readonly ranges: readonly Range[]; readonly to: number }[];
}

/** States by number; the first is where it begins. From each of them it can be ended. */
export type Automaton = readonly State[];

/** Each costs a millisecond to compile, and one that most of a vocabulary fits 20. */
const MAX_STATES = 2_000;
const MAX_PARTS = 50_000;

const tooMany = (): GrammarError =>
  new GrammarError('has too many states; repetitions and lengths with bounds make them', [], true);

/** @throws GrammarError when it has too many states, or nothing fits it. */
export function automatonOf(expression: Expression): Automaton {
  const parts = new Parts();
  const end = parts.build(expression, 0);
  return determined([0], {
    accepts: (set) => set.includes(end),
    closed: (set) => parts.closure(set),
    edges: (set) => set.flatMap((at) => parts.edges[at]!),
  });
}

/** What fits both. @throws as `automatonOf`. */
export function both(one: Automaton, other: Automaton): Automaton {
  const width = other.length;
  return determined([0], {
    accepts: ([pair]) => one[Math.floor(pair! / width)]!.accepts && other[pair! % width]!.accepts,
    closed: (set) => set,
    edges: ([pair]) =>
      one[Math.floor(pair! / width)]!.next.flatMap((a) =>
        other[pair! % width]!.next.flatMap((b) => {
          const ranges = common(a.ranges, b.ranges);
          return ranges.length === 0 ? [] : [{ ranges, to: a.to * width + b.to }];
        }),
      ),
  });
}

/** What fits `one` and is none of the texts. @throws as `automatonOf`. */
export function butNot(one: Automaton, texts: readonly string[]): Automaton {
  const choice = automatonOf({ kind: 'choice', parts: texts.map(textOf) });
  const lost = choice.length;
  // The complement: every character leads on, and what accepted does not.
  const complement: State[] = [
    ...choice.map(({ accepts, next }) => ({
      accepts: !accepts,
      next: [...next, { ranges: rest(next.flatMap(({ ranges }) => ranges)), to: lost }],
    })),
    { accepts: true, next: [{ ranges: [[0, LAST_CODE_POINT] as const], to: lost }] },
  ];
  return both(one, complement);
}

interface Edge {
  readonly ranges: readonly Range[];
  readonly to: number;
}

/** Thompson's construction. */
class Parts {
  readonly edges: Edge[][] = [[]];
  readonly #free: number[][] = [[]];

  /** @returns where it ends. */
  build(expression: Expression, from: number): number {
    switch (expression.kind) {
      case 'set': {
        const to = this.#add();
        this.edges[from]!.push({ ranges: expression.ranges, to });
        return to;
      }
      case 'sequence':
        return expression.parts.reduce((at, part) => this.build(part, at), from);
      case 'choice': {
        const end = this.#add();
        for (const part of expression.parts) {
          const start = this.#add();
          this.#free[from]!.push(start);
          this.#free[this.build(part, start)]!.push(end);
        }
        return end;
      }
      case 'repeat':
        return this.#repeat(expression, from);
    }
  }

  #repeat({ part, min, max }: Extract<Expression, { kind: 'repeat' }>, from: number): number {
    let at = from;
    for (let count = 0; count < min; count += 1) at = this.build(part, at);
    const end = this.#add();
    if (max === Infinity) {
      const loop = this.#add();
      this.#free[at]!.push(loop);
      this.#free[this.build(part, loop)]!.push(loop);
      this.#free[loop]!.push(end);
      return end;
    }
    for (let count = min; count < max; count += 1) {
      this.#free[at]!.push(end);
      const start = this.#add();
      this.#free[at]!.push(start);
      at = this.build(part, start);
    }
    this.#free[at]!.push(end);
    return end;
  }

  closure(set: readonly number[]): number[] {
    const all = new Set(set);
    for (const at of all) for (const to of this.#free[at]!) all.add(to);
    return [...all].sort((a, b) => a - b);
  }

  #add(): number {
    if (this.edges.length >= MAX_PARTS) throw tooMany();
    this.#free.push([]);
    return this.edges.push([]) - 1;
  }
}

function determined(
  start: readonly number[],
  of: {
    accepts: (set: readonly number[]) => boolean;
    closed: (set: readonly number[]) => number[] | readonly number[];
    edges: (set: readonly number[]) => readonly Edge[];
  },
): Automaton {
  const numbers = new Map<string, number>();
  const sets: (readonly number[])[] = [];
  const numberOf = (set: readonly number[]): number => {
    const closed = of.closed(set);
    const key = closed.join();
    const known = numbers.get(key);
    if (known !== undefined) return known;
    if (sets.length >= MAX_STATES) throw tooMany();
    numbers.set(key, sets.length);
    return sets.push(closed) - 1;
  };
  numberOf(start);
  const states: State[] = [];
  for (let at = 0; at < sets.length; at += 1) {
    const targets = new Map<number, Range[]>();
    for (const { range, to } of apart(of.edges(sets[at]!))) {
      const target = numberOf(to);
      targets.set(target, [...(targets.get(target) ?? []), range]);
    }
    states.push({
      accepts: of.accepts(sets[at]!),
      next: [...targets].map(([to, ranges]) => ({ to, ranges: merged(ranges) })),
    });
  }
  return pruned(states);
}

/** Ranges cut where others begin and end, with all that each leads to. */
function apart(edges: readonly Edge[]): { range: Range; to: number[] }[] {
  const borders = new Set<number>();
  for (const { ranges } of edges) for (const [from, to] of ranges) borders.add(from).add(to + 1);
  const sorted = [...borders].sort((a, b) => a - b);
  return sorted.slice(0, -1).flatMap((from, at) => {
    const to = edges
      .filter(({ ranges }) => ranges.some(([low, high]) => low <= from && from <= high))
      .map((edge) => edge.to);
    return to.length === 0
      ? []
      : [{ range: [from, sorted[at + 1]! - 1] as const, to: [...new Set(to)].sort((a, b) => a - b) }];
  });
}

/** Without what leads to no end. @throws GrammarError when nothing is left. */
function pruned(states: readonly State[]): Automaton {
  const before = states.map((): number[] => []);
  for (const [at, { next }] of states.entries()) for (const { to } of next) before[to]!.push(at);
  const alive = new Set(states.flatMap(({ accepts }, at) => (accepts ? [at] : [])));
  for (const at of alive) for (const earlier of before[at]!) alive.add(earlier);
  if (!alive.has(0)) throw new GrammarError('lets no text through');
  const kept = [...alive].sort((a, b) => a - b);
  const numbers = new Map(kept.map((at, number) => [at, number]));
  return kept.map((at) => ({
    accepts: states[at]!.accepts,
    next: states[at]!.next.flatMap(({ ranges, to }) => {
      const number = numbers.get(to);
      return number === undefined ? [] : [{ ranges, to: number }];
    }),
  }));
}

function common(some: readonly Range[], others: readonly Range[]): Range[] {
  return some.flatMap(([a, b]) =>
    others.flatMap(([c, d]): Range[] => {
      const [from, to] = [Math.max(a, c), Math.min(b, d)];
      return from <= to ? [[from, to]] : [];
    }),
  );
}

function rest(ranges: readonly Range[]): Range[] {
  const left: Range[] = [];
  let next = 0;
  for (const [from, to] of merged(ranges)) {
    if (from > next) left.push([next, from - 1]);
    next = to + 1;
  }
  return next <= LAST_CODE_POINT ? [...left, [next, LAST_CODE_POINT]] : left;
}
