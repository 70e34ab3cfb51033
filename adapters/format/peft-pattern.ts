/**
 * Keys of PEFT's `rank_pattern` and `alpha_pattern`: Python regular expressions for which PEFT asks
 * `re.match(rf"(.*\.)?({key})$", module)` (peft `utils/other.py`, `get_pattern_key`).
 *
 * They come from an untrusted file, so they never become a `RegExp`: the common subset is parsed here and run
 * as a Pike virtual machine, in time proportional to pattern length times name length. Syntax outside the
 * subset (look-around, back-references, flags, named groups, \b and the like) is refused by name.
 */
import { AdapterFormatError, printable } from '../errors.ts';

const MAX_PATTERN_CHARACTERS = 1_000;
const MAX_PROGRAM = 2_000;
const MAX_REPEAT = 256;
const MAX_GROUP_DEPTH = 32;
/** Step budget of one configuration, over all patterns and modules: under a second. */
export const MATCH_BUDGET = 20_000_000;

type Test = (code: number) => boolean;
type Node =
  | { kind: 'test'; test: Test }
  | { kind: 'begin' | 'end' }
  | { kind: 'sequence' | 'choice'; nodes: Node[] }
  | { kind: 'repeat'; node: Node; min: number; max: number };
type Instruction =
  | { op: 'test'; test: Test }
  | { op: 'begin' | 'end' | 'match' }
  | { op: 'split'; first: number; second: number }
  | { op: 'jump'; to: number };

const isDigit: Test = (code) => code >= 0x30 && code <= 0x39;
const isWord: Test = (code) =>
  isDigit(code) || code === 0x5f || (code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a);

class Parser {
  private at = 0;
  private readonly pattern: string;
  private readonly path: string | undefined;
  constructor(pattern: string, path: string | undefined) {
    this.pattern = pattern;
    this.path = path;
  }

  parse(): Node {
    const node = this.choice(0);
    if (this.at < this.pattern.length) this.refuse('an unbalanced ")"');
    return node;
  }

  private refuse(what: string): never {
    throw new AdapterFormatError({
      code: 'pattern_unsupported',
      message:
        `The pattern "${printable(this.pattern)}" uses ${what} at character ${this.at}, which is not ` +
        'supported. List the modules by name instead.',
      path: this.path,
      subject: this.pattern,
    });
  }

  private eat(character: string): boolean {
    if (this.pattern[this.at] !== character) return false;
    this.at++;
    return true;
  }

  private choice(depth: number): Node {
    if (depth > MAX_GROUP_DEPTH) this.refuse('too many nested groups');
    const nodes = [this.sequence(depth)];
    while (this.eat('|')) nodes.push(this.sequence(depth));
    return nodes.length === 1 ? (nodes[0] as Node) : { kind: 'choice', nodes };
  }

  private sequence(depth: number): Node {
    const nodes: Node[] = [];
    while (this.at < this.pattern.length && !'|)'.includes(this.pattern[this.at] as string))
      nodes.push(this.repeated(this.atom(depth)));
    return { kind: 'sequence', nodes };
  }

  private repeated(node: Node): Node {
    let range: [number, number];
    if (this.eat('*')) range = [0, Infinity];
    else if (this.eat('+')) range = [1, Infinity];
    else if (this.eat('?')) range = [0, 1];
    else if (this.eat('{')) range = this.bounds();
    else return node;
    if (node.kind === 'begin' || node.kind === 'end') this.refuse('a repeated anchor');
    this.eat('?'); // Lazy or greedy: the same answer, as nothing is captured.
    if ('*+?{'.includes(this.pattern[this.at] ?? '\0')) this.refuse('a repeated quantifier');
    return { kind: 'repeat', node, min: range[0], max: range[1] };
  }

  private bounds(): [number, number] {
    const match = /^(\d{0,4})(,?)(\d{0,4})\}/.exec(this.pattern.slice(this.at, this.at + 12));
    const [text, low, comma, high] = match ?? [];
    if (text === undefined || (!low && !high)) return this.refuse('"{" that is not a quantifier');
    this.at += text.length;
    const min = Number(low || 0);
    const max = comma ? (high ? Number(high) : Infinity) : min;
    if (max < min || Math.max(min, Number.isFinite(max) ? max : 0) > MAX_REPEAT)
      return this.refuse(`a repetition that is not between 0 and ${MAX_REPEAT}`);
    return [min, max];
  }

  private atom(depth: number): Node {
    const character = this.pattern[this.at++] as string;
    switch (character) {
      case '.':
        return { kind: 'test', test: () => true };
      case '^':
        return { kind: 'begin' };
      case '$':
        return { kind: 'end' };
      case '(': {
        if (this.eat('?') && !this.eat(':')) this.refuse('a group that begins with "(?"');
        const node = this.choice(depth + 1);
        if (!this.eat(')')) this.refuse('a group that is not closed');
        return node;
      }
      case '[':
        return { kind: 'test', test: this.characterClass() };
      case '*':
      case '+':
      case '?':
      case '{':
        return this.refuse('a quantifier with nothing to repeat');
      case '\\':
        return { kind: 'test', test: this.escape().test };
      default: {
        const code = character.charCodeAt(0);
        return { kind: 'test', test: (other) => other === code };
      }
    }
  }

  /** After the backslash. `code` is there when the escape stands for one character. */
  private escape(): { test: Test; code?: number } {
    const character = this.pattern[this.at++] ?? '';
    if (character === 'd') return { test: isDigit };
    if (character === 'w') return { test: isWord };
    if (!/^[!-/:-@[-`{-~]$/.test(character)) return this.refuse(`the escape "\\${printable(character)}"`);
    const code = character.charCodeAt(0);
    return { test: (other) => other === code, code };
  }

  private characterClass(): Test {
    const negated = this.eat('^');
    const tests: Test[] = [];
    do {
      const low = this.classMember();
      if (this.pattern[this.at] === '-' && this.pattern[this.at + 1] !== ']') {
        this.at++;
        const high = this.classMember();
        const [from, to] = [low.code, high.code];
        if (from === undefined || to === undefined || from > to) return this.refuse('a bad range in "[…]"');
        tests.push((code) => code >= from && code <= to);
      } else tests.push(low.test);
    } while (!this.eat(']'));
    return (code) => tests.some((test) => test(code)) !== negated;
  }

  private classMember(): { test: Test; code?: number } {
    const character = this.pattern[this.at++];
    if (character === undefined || character === '[' || character === ']')
      return this.refuse('an invalid "[…]"');
    if (character === '\\') return this.escape();
    const code = character.charCodeAt(0);
    return { test: (other) => other === code, code };
  }
}

function compile(root: Node, tooLong: () => never): Instruction[] {
  const program: Instruction[] = [];
  const push = (instruction: Instruction): number => {
    if (program.length >= MAX_PROGRAM) tooLong();
    return program.push(instruction) - 1;
  };
  const emit = (node: Node): void => {
    switch (node.kind) {
      case 'test':
        push({ op: 'test', test: node.test });
        return;
      case 'begin':
      case 'end':
        push({ op: node.kind });
        return;
      case 'sequence':
        node.nodes.forEach(emit);
        return;
      case 'choice': {
        const jumps: { op: 'jump'; to: number }[] = [];
        node.nodes.forEach((option, index) => {
          const split = { op: 'split' as const, first: 0, second: 0 };
          const last = index === node.nodes.length - 1;
          if (!last) split.first = push(split) + 1;
          emit(option);
          if (last) return;
          const jump = { op: 'jump' as const, to: 0 };
          push(jump);
          jumps.push(jump);
          split.second = program.length;
        });
        for (const jump of jumps) jump.to = program.length;
        return;
      }
      case 'repeat': {
        for (let i = 0; i < node.min; i++) emit(node.node);
        const splits: { op: 'split'; first: number; second: number }[] = [];
        const optional = Number.isFinite(node.max) ? node.max - node.min : 1;
        for (let i = 0; i < optional; i++) {
          const split = { op: 'split' as const, first: 0, second: 0 };
          split.first = push(split) + 1;
          splits.push(split);
          emit(node.node);
          if (!Number.isFinite(node.max)) push({ op: 'jump', to: split.first - 1 });
        }
        for (const split of splits) split.second = program.length;
      }
    }
  };
  emit(root);
  push({ op: 'match' });
  return program;
}

/** @returns whether `(.*\.)?(pattern)$` matches; `spend` gets the steps taken and may throw. */
export type ModuleMatcher = (module: string, spend?: (steps: number) => void) => boolean;

/** @throws AdapterFormatError `pattern_unsupported` */
export function compileModulePattern(pattern: string, path?: string): ModuleMatcher {
  const tooLong = (): never => {
    throw new AdapterFormatError({
      code: 'pattern_unsupported',
      message: `The pattern "${printable(pattern)}" is too long. List the modules by name instead.`,
      path,
      subject: pattern,
    });
  };
  if (pattern.length > MAX_PATTERN_CHARACTERS) tooLong();
  // Nearly every key is a plain module path, where "." matches any character: no machine needed.
  if (/^[A-Za-z0-9_.]*$/.test(pattern))
    return (module, spend) => {
      const offset = module.length - pattern.length;
      spend?.(1);
      if (offset < 0 || (offset > 0 && module[offset - 1] !== '.')) return false;
      for (let i = 0; i < pattern.length; i++)
        if (pattern[i] !== '.' && pattern[i] !== module[offset + i]) return false;
      return true;
    };

  const program = compile(new Parser(pattern, path).parse(), tooLong);
  return (module, spend) => {
    let threads: number[] = [];
    const seen = new Int32Array(program.length).fill(-1);
    const add = (list: number[], start: number, position: number): boolean => {
      const stack = [start];
      for (let pc = stack.pop(); pc !== undefined; pc = stack.pop()) {
        if (seen[pc] === position) continue;
        seen[pc] = position;
        const instruction = program[pc] as Instruction;
        if (instruction.op === 'match') {
          if (position === module.length) return true;
        } else if (instruction.op === 'test') list.push(pc);
        else if (instruction.op === 'jump') stack.push(instruction.to);
        else if (instruction.op === 'split') stack.push(instruction.second, instruction.first);
        else if (instruction.op === 'begin' ? position === 0 : position === module.length) stack.push(pc + 1);
      }
      return false;
    };
    for (let position = 0; ; position++) {
      const next: number[] = [];
      const code = position === 0 ? 0 : module.charCodeAt(position - 1);
      for (const pc of threads) {
        const instruction = program[pc] as Instruction;
        if (instruction.op === 'test' && instruction.test(code) && add(next, pc + 1, position)) return true;
      }
      if ((position === 0 || code === 0x2e) && add(next, 0, position)) return true;
      spend?.(threads.length + next.length + 1);
      if (position === module.length) return false;
      threads = next;
    }
  };
}
