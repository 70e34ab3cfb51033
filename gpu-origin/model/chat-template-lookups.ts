/** Methods and filters whose first argument is looked for and is not written. */
const LOOKUPS = new Set(['split', 'rsplit', 'startswith', 'endswith', 'find', 'count', 'replace']);

/**
 * Lets a template find what its contents hide: DeepSeek's cuts earlier thoughts off with `content.split('</think>')`,
 * and contents have a placeholder there. What a template writes stays as it is.
 * @param node of a parsed template; its literals are changed in place.
 * @param hide control strings to placeholders.
 */
export function hideLookups(node: unknown, hide: (text: string) => string): void {
  if (node instanceof Map) hideLookups([...node.entries()], hide);
  if (typeof node !== 'object' || node === null) return;
  const literal = lookedFor(node as Node);
  if (literal !== null) literal.value = hide(literal.value);
  for (const child of Object.values(node)) hideLookups(child, hide);
}

interface Node {
  type?: string;
  value?: unknown;
  operator?: { value: string };
  left?: Node;
  callee?: Node;
  property?: Node;
  args?: Node[];
}

/** The text literal that this expression looks for in something else. */
function lookedFor(node: Node): { value: string } | null {
  const searched =
    node.type === 'BinaryExpression' && (node.operator?.value === 'in' || node.operator?.value === 'not in')
      ? node.left
      : node.type === 'CallExpression' && LOOKUPS.has(String(nameOf(node.callee)))
        ? node.args?.[0]
        : undefined;
  return searched?.type === 'StringLiteral' ? (searched as { value: string }) : null;
}

const nameOf = (callee: Node | undefined): unknown =>
  callee?.type === 'MemberExpression' ? callee.property?.value : callee?.value;
