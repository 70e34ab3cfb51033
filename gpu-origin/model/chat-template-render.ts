import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { PYTHON_GLOBALS } from './chat-template-python.ts';
import type { Steps } from './text-steps.ts';

/** Messages that a template's loop handles in a step: some 50 microseconds each. */
const MESSAGES_A_STEP = 32;

/** What is looked at here of the library's syntax tree, which it does not export. */
interface Node {
  type: string;
  test?: Node;
  body?: Node[];
  alternate?: Node[];
  defaultBlock?: Node[];
  iterable?: Node;
  loopvar?: { type: string; value: string };
}
type Value = ReturnType<Interpreter['evaluate']>;

/**
 * `template.render` in steps: the loop over the messages stands at the top of a template, or under conditions, and each
 * of its turns is evaluated by the library by itself. Other loops, and those with `break` or `continue`, go at once.
 * @throws what the template raises.
 */
export function* renderInSteps(template: Template, variables: Record<string, unknown>): Steps<string> {
  const environment = globals();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  return yield* block((template.parsed as unknown as Node).body ?? [], {
    interpreter: new Interpreter(environment),
    environment,
  });
}

/** As the library sets them, and what parsed templates call instead of the library's own. */
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

function* block(nodes: readonly Node[], scope: Scope): Steps<string> {
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

/** @returns null for a loop that the library is to run. */
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

function* loop(node: Node, items: readonly Value[], { interpreter, environment }: Scope): Steps<string> {
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
