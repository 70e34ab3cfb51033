import { Environment, Interpreter, Template } from '@huggingface/jinja';
import type { Chunked } from './tokenizer.ts';

/** Messages per step of a template's loop: about 50 microseconds each. */
const MESSAGES_A_STEP = 32;

/** The used part of the library's syntax tree, which it does not export. */
interface Node {
  type?: string;
  value?: unknown;
  test?: Node;
  body?: Node[];
  alternate?: Node[];
  defaultBlock?: Node[];
  iterable?: Node;
  loopvar?: { type: string; value: string };
  computed?: boolean;
  operand?: Node;
  filter?: Node;
  callee?: Node;
  object?: Node;
  property?: Node;
  args?: Node[];
  operator?: { value?: unknown };
  left?: Node;
  right?: Node;
}
type Value = ReturnType<Interpreter['evaluate']>;

/**
 * `template.render` in steps: the loop over the messages is at the top of a template, or within conditions, and
 * the library evaluates each iteration separately. Other loops, and those with `break` or `continue`, run at
 * once.
 * @throws the template's own errors.
 */
export function* renderChunked(template: Template, variables: Record<string, unknown>): Chunked<string> {
  const environment = globals();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  return yield* block((template.parsed as unknown as Node).body ?? [], {
    interpreter: new Interpreter(environment),
    environment,
  });
}

/** As the library sets them, and the replacements that parsed templates call. */
function globals(): Environment {
  const environment = new Environment();
  for (const name of ['true', 'True']) environment.set(name, true);
  for (const name of ['false', 'False']) environment.set(name, false);
  for (const name of ['none', 'None']) environment.set(name, null);
  environment.set('raise_exception', (message: string) => {
    throw new Error(message);
  });
  environment.set('range', (from: number, to?: number, step?: number) => range(from, to, step));
  environment.set('strftime_now', (format: string) => today.render({ format }));
  for (const [name, call] of PYTHON_GLOBALS) environment.set(name, call);
  return environment;
}

const today = new Template('{{ strftime_now(format) }}');

function range(from: number, to?: number, step = 1): number[] {
  const [start, end] = to === undefined ? [0, from] : [from, to];
  if (step === 0) throw new Error('range() step must not be zero');
  return Array.from({ length: Math.max(0, Math.ceil((end - start) / step)) }, (_, i) => start + i * step);
}

interface Scope {
  interpreter: Interpreter;
  environment: Environment;
}

function* block(nodes: readonly Node[], scope: Scope): Chunked<string> {
  let text = '';
  for (const node of nodes) {
    if (node.type === 'If') {
      const holds = evaluate(node.test!, scope).__bool__().value;
      text += yield* block((holds ? node.body : node.alternate) ?? [], scope);
      continue;
    }
    const items = node.type === 'For' ? itemsOf(node, scope) : null;
    if (items !== null) text += yield* loop(node, items, scope);
    else {
      const value = evaluate(node, scope);
      if (value.type !== 'NullValue' && value.type !== 'UndefinedValue') text += value.toString();
    }
  }
  return text;
}

/** @returns null for a loop that the library must run. */
function itemsOf(node: Node, scope: Scope): readonly Value[] | null {
  const plain = node.loopvar?.type === 'Identifier' && node.iterable?.type !== 'SelectExpression';
  if (!plain || leaves(node.body)) return null;
  const iterable = evaluate(node.iterable!, scope);
  return iterable.type === 'ArrayValue' ? (iterable.value as Value[]) : null;
}

const leaves = (node: unknown): boolean =>
  typeof node === 'object' &&
  node !== null &&
  (['Break', 'Continue'].includes(String((node as Node).type)) || Object.values(node).some(leaves));

function* loop(node: Node, items: readonly Value[], { interpreter, environment }: Scope): Chunked<string> {
  const inside = { interpreter, environment: new Environment(environment) };
  let text = '';
  for (const [at, item] of items.entries()) {
    if (at > 0 && at % MESSAGES_A_STEP === 0) yield;
    const place = new Environment().set('loop', {
      ...{ index: at + 1, index0: at, first: at === 0, last: at === items.length - 1, length: items.length },
      ...{ revindex: items.length - at, revindex0: items.length - at - 1 },
      ...{ previtem: undefined, nextitem: undefined },
    });
    const fields = place.value as Map<string, Value>;
    if (at > 0) fields.set('previtem', items[at - 1]!);
    if (at + 1 < items.length) fields.set('nextitem', items[at + 1]!);
    inside.environment.setVariable('loop', place);
    inside.environment.setVariable(node.loopvar!.value, item);
    text += yield* block(node.body ?? [], inside);
  }
  return items.length > 0 ? text : yield* block(node.defaultBlock ?? [], inside);
}

const evaluate = (node: Node, { interpreter, environment }: Scope): Value =>
  interpreter.evaluate(node as never, environment);

/** `str.isspace` of Python 3 with Unicode 15: bidirectional type WS, B or S, or category Zs. */
const BLANK = String.raw`[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`;
const BLANKS_ONLY = new RegExp(`^${BLANK}*$`);
const WORDS = new RegExp(`[^${BLANK.slice(1)}+`, 'g');

/** Names that no template can contain, as prefix of the methods' own. */
const HIDDEN = 'python ';

/** Set in a template's environment, for the calls of {@link usePython}. */
const PYTHON_GLOBALS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  [`${HIDDEN}strip`, (text: unknown, set?: string) => stripEnd(stripStart(text, set), set)],
  [`${HIDDEN}lstrip`, stripStart],
  [`${HIDDEN}rstrip`, stripEnd],
  [`${HIDDEN}split`, (text: unknown) => stringOf(text).match(WORDS) ?? []],
  [`${HIDDEN}==`, isEqual],
  [`${HIDDEN}!=`, (a: unknown, b: unknown) => !isEqual(a, b)],
]);

const isNumeric = (value: unknown): boolean => typeof value === 'number' || typeof value === 'boolean';

/** Of values of the library: members of lists (arrays) and dictionaries (maps) are in boxes. `True` is 1; the library does not tell `none` from what is not there. */
function isEqual(a: unknown, b: unknown): boolean {
  if (isNumeric(a) && isNumeric(b)) return Number(a) === Number(b);
  const inBoxes = (x: unknown, y: unknown): boolean =>
    isEqual((x as Node).value, (y as Node | undefined)?.value);
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, at) => inBoxes(item, b[at]));
  if (a instanceof Map && b instanceof Map)
    return a.size === b.size && [...a].every(([key, item]) => b.has(key) && inBoxes(item, b.get(key)));
  return a === b;
}

function stripStart(text: unknown, set?: string): string {
  return stringOf(text).replace(new RegExp(`^${classOf(set)}+`), '');
}

/** Linear in the text: only starts of runs are searched for their end. */
function stripEnd(text: unknown, set?: string): string {
  const blank = classOf(set);
  return stringOf(text).replace(new RegExp(`(?<!${blank})${blank}+$`), '');
}

/** @param set white space, which needs no escape in a class. */
const classOf = (set?: string): string => (set === undefined ? BLANK : set === '' ? '(?!)' : `[${set}]`);

function stringOf(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new Error(`cannot strip or split ${value == null ? 'a missing value' : `a ${typeof value}`}`);
}

/**
 * What templates do with white space, as Python does it: `str.strip`, `lstrip`, `rstrip` and `split`, and the filter
 * `trim`. The template library has JavaScript's `trim`, which also takes U+FEFF and leaves U+001C to U+001F and U+0085,
 * and it ignores which characters it is to strip (Qwen 3: `.strip('\n')`). And what is equal: the library has
 * JavaScript's `==`, by which a system message of blanks alone is `false`, and Llama 2's template leaves it out. Makes
 * a template call Python's own. Only white space can be named as the characters to strip: contents are guarded behind
 * white space and nothing else. What else is written stays the library's.
 * @param node of a parsed template; changed in place.
 */
export function usePython(node: unknown): void {
  if (node instanceof Map) usePython([...node.entries()]);
  if (typeof node !== 'object' || node === null) return;
  const call = pythonCall(node as Node);
  if (call !== null) {
    for (const key of Object.keys(node)) Reflect.deleteProperty(node, key);
    Object.assign(node, call);
  }
  for (const child of Object.values(node)) usePython(child);
}

function pythonCall(node: Node): Node | null {
  if (node.type === 'FilterExpression') {
    const args = node.filter?.type === 'CallExpression' ? (node.filter.args ?? []) : [];
    const name = node.filter?.type === 'CallExpression' ? node.filter.callee?.value : node.filter?.value;
    return name === 'trim' ? callOf('strip', node.operand, args) : filterOfAbsent(node, args);
  }
  const operator = node.type === 'BinaryExpression' ? node.operator?.value : undefined;
  if ((operator === '==' || operator === '!=') && node.left !== undefined && node.right !== undefined)
    return hiddenCall(operator, [node.left, node.right]);
  const { callee, args = [] } = node;
  if (node.type !== 'CallExpression' || callee?.type !== 'MemberExpression' || callee.computed === true)
    return null;
  return callOf(String(callee.property?.value), callee.object, args);
}

/** / In the library no test is true of a missing attribute, not even `undefined`, so the test is inverted. */
function filterOfAbsent(node: Node, args: readonly Node[]): Node | null {
  const callee = node.filter?.callee;
  const other = callee?.value === 'selectattr' ? 'rejectattr' : 'selectattr';
  if (callee?.value !== 'selectattr' && callee?.value !== 'rejectattr') return null;
  if (args[1]?.type !== 'StringLiteral' || args[1].value !== 'undefined') return null;
  const filter = {
    ...node.filter,
    callee: { ...callee, value: other },
    args: [args[0]!, { ...args[1], value: 'defined' }],
  };
  return { ...node, filter };
}

function callOf(name: string, operand: Node | undefined, args: Node[]): Node | null {
  if (operand === undefined || !PYTHON_GLOBALS.has(HIDDEN + name)) return null;
  const [set, ...more] = args;
  const known =
    set === undefined ||
    (name !== 'split' && set.type === 'StringLiteral' && BLANKS_ONLY.test(String(set.value)));
  return known && more.length === 0 ? hiddenCall(name, [operand, ...args]) : null;
}

const hiddenCall = (name: string, args: Node[]): Node => ({
  type: 'CallExpression',
  callee: { type: 'Identifier', value: HIDDEN + name },
  args,
});
