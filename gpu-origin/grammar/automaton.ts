/** Regular languages of characters: from expressions to automata in which one character leads to one state. */
import { complement, GrammarError, LAST_CODE_POINT, merged, type Work, type Range } from './ebnf.ts';

export type Expression =
  | { readonly kind: 'set'; readonly ranges: readonly Range[] }
  | { readonly kind: 'sequence' | 'choice'; readonly parts: readonly Expression[] }
  | Repetition;

interface Repetition {
  readonly kind: 'repeat';
  readonly part: Expression;
  readonly min: number;
  /** Infinity = any number. */
  readonly max: number;
}

export const ANY: Expression = { kind: 'set', ranges: [[0, LAST_CODE_POINT]] };
export const anyNumberOf = (part: Expression): Expression => ({
  kind: 'repeat',
  part,
  min: 0,
  max: Infinity,
});
const textOf = (text: string): Expression => ({
  kind: 'sequence',
  parts: [...text].map((one) => ({ kind: 'set', ranges: [[one.codePointAt(0)!, one.codePointAt(0)!]] })),
});

interface Edge {
  /** Sorted; none touches another of its edge or overlaps one of its state. Equal lists are mostly one object. */
  readonly ranges: readonly Range[];
  readonly to: number;
}

export interface State {
  readonly accepts: boolean;
  readonly next: readonly Edge[];
}

/** States by number; the first is where it begins. From each of them it can be ended. */
export type Automaton = readonly State[];

/** Each costs a millisecond to compile, and one that most of a vocabulary fits 20. */
const MAX_STATES = 2_000;
/** Characters and classes of a regular expression with its repetitions written out. `format: uri` has 137. */
const MAX_PARTS = 5_000;

const tooMany = (): GrammarError =>
  new GrammarError(
    'has too many states; shorten its repetitions and lengths with bounds, or use fewer of them',
    [],
    true,
  );

/** @throws GrammarError when it has too many states, costs too much work, or nothing fits it. */
export function automatonOf(expression: Expression, work: Work): Automaton {
  const parts = new Parts(work);
  const end = parts.build(expression, 0);
  return pruned(determined(parts, end, work), work);
}

/** What fits both. @throws as `automatonOf`. */
export function both(one: Automaton, other: Automaton, work: Work): Automaton {
  const numbers = new Map<number, number>();
  const pairs: [number, number][] = [];
  const numberOf = (a: number, b: number): number => {
    const key = a * other.length + b;
    const known = numbers.get(key);
    if (known !== undefined) return known;
    if (pairs.length >= MAX_STATES) throw tooMany();
    numbers.set(key, pairs.length);
    return pairs.push([a, b]) - 1;
  };
  numberOf(0, 0);
  const states: State[] = [];
  for (let at = 0; at < pairs.length; at += 1) {
    const [a, b] = [one[pairs[at]![0]]!, other[pairs[at]![1]]!];
    const next: Edge[] = [];
    for (const some of a.next)
      for (const others of b.next) {
        const ranges = common(some.ranges, others.ranges, work);
        if (ranges.length > 0) next.push({ ranges, to: numberOf(some.to, others.to) });
      }
    states.push({ accepts: a.accepts && b.accepts, next: joined(next, work) });
  }
  return pruned(states, work);
}

/** What fits `one` and is none of the texts. @throws as `automatonOf`. */
export function butNot(one: Automaton, texts: readonly string[], work: Work): Automaton {
  const choice = automatonOf({ kind: 'choice', parts: texts.map(textOf) }, work);
  const lost = choice.length;
  // The complement: every character leads on, and what accepted does not.
  const others: State[] = [
    ...choice.map(({ accepts, next }) => {
      const known = next.flatMap(({ ranges }) => ranges);
      work.spend(known.length);
      return { accepts: !accepts, next: [...next, { ranges: complement(known), to: lost }] };
    }),
    { accepts: true, next: [{ ranges: [[0, LAST_CODE_POINT] as const], to: lost }] },
  ];
  return both(one, others, work);
}

/** Thompson's construction; how deep it recurses is how deep the reader lets groups stand inside one another. */
class Parts {
  /** By part: the number of the set that leads on from it, or -1, and where to. */
  readonly set: number[] = [-1];
  readonly to: number[] = [0];
  /** Where each leads without a character. */
  readonly free: number[][] = [[]];
  /** All sets, each once. */
  readonly sets: (readonly Range[])[] = [];
  readonly #numbers = new Map<readonly Range[] | string, number>();
  readonly #work: Work;

  constructor(work: Work) {
    this.#work = work;
  }

  /** @returns where it ends. */
  build(expression: Expression, from: number): number {
    // Groups with nothing in them have no parts that could be counted.
    this.#work.spend(1);
    switch (expression.kind) {
      case 'set': {
        const to = this.#add();
        this.set[from] = this.#numberOf(expression.ranges);
        this.to[from] = to;
        return to;
      }
      case 'sequence':
        return expression.parts.reduce((at, part) => this.build(part, at), from);
      case 'choice': {
        const end = this.#add();
        for (const part of expression.parts) {
          const start = this.#add();
          this.free[from]!.push(start);
          this.free[this.build(part, start)]!.push(end);
        }
        return end;
      }
      case 'repeat':
        return this.#repeat(flat(expression), from);
    }
  }

  #repeat({ part, min, max }: Repetition, from: number): number {
    let at = from;
    for (let count = 0; count < min; count += 1) at = this.build(part, at);
    const end = this.#add();
    if (max === Infinity) {
      const loop = this.#add();
      this.free[at]!.push(loop);
      this.free[this.build(part, loop)]!.push(loop);
      this.free[loop]!.push(end);
      return end;
    }
    for (let count = min; count < max; count += 1) {
      this.free[at]!.push(end);
      at = this.build(part, at);
    }
    this.free[at]!.push(end);
    return end;
  }

  #add(): number {
    if (this.set.length >= MAX_PARTS) throw tooMany();
    this.free.push([]);
    this.to.push(0);
    return this.set.push(-1) - 1;
  }

  /**
   * By part: where its character leads, past parts that lead to one other and no further. None goes round in these: what
   * repeats without end leads to its end as well.
   */
  targets(): number[] {
    this.#work.spend(this.to.length);
    const final: number[] = [];
    return this.to.map((first) => {
      const passed: number[] = [];
      let at = first;
      while (final[at] === undefined && this.set[at] === -1 && this.free[at]!.length === 1) {
        passed.push(at);
        at = this.free[at]![0]!;
      }
      const end = final[at] ?? at;
      for (const part of passed) final[part] = end;
      return end;
    });
  }

  #numberOf(ranges: readonly Range[]): number {
    const known = this.#numbers.get(ranges);
    if (known !== undefined) return known;
    this.#work.spend(ranges.length);
    const key = ranges.join(';');
    const number = this.#numbers.get(key) ?? this.sets.push(ranges) - 1;
    this.#numbers.set(key, number).set(ranges, number);
    return number;
  }
}

/**
 * `(x{a,b}){c,d}` as one repetition, where every count between its least and its most is there. Optional parts inside
 * optional parts could be passed over in as many ways as there are parts, from each of them.
 */
function flat(repetition: Repetition): Repetition {
  const { part, min, max } = repetition;
  if (part.kind !== 'repeat') return repetition;
  const inner = flat(part);
  if (inner.min > 1 && min !== max) return { ...repetition, part: inner };
  const most = inner.max === 0 || max === 0 ? 0 : inner.max * max;
  return { kind: 'repeat', part: inner.part, min: inner.min * min, max: most };
}

/** The subset construction, over classes of characters that all sets of the expression treat alike. */
function determined(parts: Parts, end: number, work: Work): State[] {
  const { classes, classesOf } = classesIn(parts.sets, work);
  const to = parts.targets();
  const numbers = new Map<string, number>();
  const members: (readonly number[])[] = [];
  const accepting: boolean[] = [];
  /** By the parts that a class leads to, before those that follow without a character are found. */
  const found = new Map<string, number>();
  const seen = new Uint32Array(parts.set.length);
  let round = 0;

  const numberOf = (targets: readonly number[]): number => {
    const short = targets.join();
    const before = found.get(short);
    if (before !== undefined) return before;
    round += 1;
    const reached: number[] = [];
    const reach = (part: number): void => {
      if (seen[part] === round) return;
      seen[part] = round;
      reached.push(part);
    };
    targets.forEach(reach);
    let steps = targets.length;
    for (const part of reached) {
      parts.free[part]!.forEach(reach);
      steps += 1 + parts.free[part]!.length;
    }
    work.spend(steps);
    const accepts = seen[end] === round;
    // The others only lead here.
    const leading = reached.filter((part) => parts.set[part] !== -1).sort((a, b) => a - b);
    const key = `${accepts}${leading.join()}`;
    const known = numbers.get(key);
    if (known === undefined && members.length >= MAX_STATES) throw tooMany();
    const number = known ?? members.push(leading) - 1;
    if (known === undefined) accepting.push(accepts);
    numbers.set(key, number);
    found.set(short, number);
    return number;
  };

  numberOf([0]);
  const states: State[] = [];
  for (let at = 0; at < members.length; at += 1) {
    const targets = new Map<number, number[]>();
    let steps = 1;
    for (const part of members[at]!)
      for (const one of classesOf[parts.set[part]!]!) {
        const all = targets.get(one);
        if (all === undefined) targets.set(one, [to[part]!]);
        else if (all.at(-1) !== to[part]) all.push(to[part]!);
        steps += 1;
      }
    work.spend(steps);
    const next = [...targets].map(([one, all]) => ({ ranges: classes[one]!, to: numberOf(all) }));
    states.push({ accepts: accepting[at]!, next: joined(next, work) });
  }
  return states;
}

/** A sweep over the sets' borders: characters between which no set tells are one class. */
function classesIn(
  sets: readonly (readonly Range[])[],
  work: Work,
): { classes: readonly (readonly Range[])[]; classesOf: readonly (readonly number[])[] } {
  const borders = sets.flatMap((ranges, set) =>
    ranges.flatMap(([from, to]) => [
      { at: from, set, opens: true },
      { at: to + 1, set, opens: false },
    ]),
  );
  work.spend(borders.length);
  borders.sort((a, b) => a.at - b.at || Number(a.opens) - Number(b.opens));
  const classes: Range[][] = [];
  const classesOf = sets.map((): number[] => []);
  const numbers = new Map<string, number>();
  const open = new Set<number>();
  for (const [index, { at, set, opens }] of borders.entries()) {
    if (opens) open.add(set);
    else open.delete(set);
    const next = borders[index + 1]?.at ?? at;
    if (next === at || open.size === 0) continue;
    work.spend(1 + open.size);
    const key = [...open].sort((a, b) => a - b).join();
    let number = numbers.get(key);
    if (number === undefined) {
      number = classes.push([]) - 1;
      numbers.set(key, number);
      for (const one of open) classesOf[one]!.push(number);
    }
    classes[number]!.push([at, next - 1]);
  }
  return { classes, classesOf };
}

/** One edge for each state that these lead to. */
function joined(edges: readonly Edge[], work: Work): Edge[] {
  const lists = new Map<number, (readonly Range[])[]>();
  for (const { ranges, to } of edges) {
    const known = lists.get(to);
    if (known === undefined) lists.set(to, [ranges]);
    else known.push(ranges);
  }
  return [...lists].map(([to, [first, ...others]]) => {
    if (others.length === 0) return { ranges: first!, to };
    const all = [first!, ...others].flat();
    work.spend(all.length);
    return { ranges: merged(all), to };
  });
}

/** Without what leads to no end. @throws GrammarError when nothing is left. */
function pruned(states: readonly State[], work: Work): Automaton {
  const before = states.map((): number[] => []);
  for (const [at, { next }] of states.entries()) {
    work.spend(1 + next.length);
    for (const { to } of next) before[to]!.push(at);
  }
  const alive = new Set(states.flatMap(({ accepts }, at) => (accepts ? [at] : [])));
  for (const at of alive) for (const earlier of before[at]!) alive.add(earlier);
  if (!alive.has(0)) throw new GrammarError('matches no text');
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

/** @param some sorted and apart from each other, as `others`. */
export function common(some: readonly Range[], others: readonly Range[], work: Work): readonly Range[] {
  work.spend(1);
  if (isEverything(others)) return some;
  if (isEverything(some)) return others;
  work.spend(some.length + others.length);
  const ranges: Range[] = [];
  for (let at = 0, beside = 0; at < some.length && beside < others.length;) {
    const [[a, b], [c, d]] = [some[at]!, others[beside]!];
    const [from, to] = [Math.max(a, c), Math.min(b, d)];
    if (from <= to) ranges.push([from, to]);
    if (b < d) at += 1;
    else beside += 1;
  }
  return ranges;
}

export const isEverything = ([first, ...others]: readonly Range[]): boolean =>
  first !== undefined && others.length === 0 && first[0] === 0 && first[1] === LAST_CODE_POINT;
