/**
 * What templates do with white space, as Python does it: `str.strip`, `lstrip`, `rstrip` and `split`, and the filter
 * `trim`. The template library has JavaScript's `trim`, which also takes U+FEFF and leaves U+001C to U+001F and U+0085,
 * and it ignores which characters it is to strip (Qwen 3: `.strip('\n')`). And what is equal: the library has
 * JavaScript's `==`, by which a system message of blanks alone is `false`, and Llama 2's template leaves it out.
 */

/** `str.isspace` of Python 3 with Unicode 15: bidirectional type WS, B or S, or category Zs. */
const BLANK = String.raw`[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`;
const BLANKS_ONLY = new RegExp(`^${BLANK}*$`);
const WORDS = new RegExp(`[^${BLANK.slice(1)}+`, 'g');

/** Names that no template can write, in front of the methods' own. */
const HIDDEN = 'python ';

/** To be set in a template's environment, for what {@link usePython} calls. */
export const PYTHON_GLOBALS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
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

/** Linear in the text: only where a run begins is its end looked for. */
function stripEnd(text: unknown, set?: string): string {
  const blank = classOf(set);
  return stringOf(text).replace(new RegExp(`(?<!${blank})${blank}+$`), '');
}

/** @param set white space, which needs no escape in a class. */
const classOf = (set?: string): string => (set === undefined ? BLANK : set === '' ? '(?!)' : `[${set}]`);

function stringOf(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new Error(`cannot strip or split ${value == null ? 'what is not there' : `a ${typeof value}`}`);
}

interface Node {
  type?: string;
  value?: unknown;
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

/**
 * Makes a template call Python's own. Only white space can be named as the characters to strip: contents are guarded
 * behind white space and nothing else. What else is written stays the library's.
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

/** For the library no test is true of an attribute that is not there, `undefined` neither: asked the other way round. */
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
