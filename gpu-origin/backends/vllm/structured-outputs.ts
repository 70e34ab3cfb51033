/**
 * Forms that answers are held to, as vLLM's `structured_outputs` has them (0.32): it compiles them itself, by XGrammar.
 * What this server's own grammars cannot hold is refused before it is asked, so that it means the same at both engines.
 */
import { type Constraint, type FunctionDefinition, ok } from '../../../protocol/index.ts';
import type { Grammar } from '../../engine/ports.ts';
import type { AskedForm, AskedTools, Grammars } from '../../grammar/ports.ts';
import { CALL_SHAPES } from '../../grammar/tool-grammar.ts';

type StructuredOutputs = Readonly<Record<string, unknown>>;

/** What vLLM holds an answer to; nothing is compiled here. */
export class FormAtVllm implements Grammar {
  readonly outputs: StructuredOutputs;

  constructor(asked: AskedForm) {
    this.outputs = outputsOf(asked);
  }

  open(): never {
    throw new Error('the answers of vLLM are held to their form there');
  }

  release(): void {
    // Nothing is kept.
  }
}

export const vllmGrammars: Grammars = {
  prepare: ({ asked }) => Promise.resolve(ok(new FormAtVllm(asked))),
  update: () => Promise.reject(new Error('no answer of vLLM is held to a grammar here')),
  close: () => Promise.resolve(),
};

const tag = (structural: object): StructuredOutputs => ({ structural_tag: JSON.stringify(structural) });

function outputsOf({ constraint, tools }: AskedForm): StructuredOutputs {
  if (tools !== null) return tag(structuralTag(tools, constraint));
  return constraint === null ? {} : outputsOfConstraint(constraint);
}

function outputsOfConstraint(constraint: Constraint): StructuredOutputs {
  switch (constraint.kind) {
    case 'json_object':
      return tag(structuralJson());
    case 'json_schema':
      return tag(structuralJson(constraint.schema));
    case 'regex':
      return { regex: constraint.pattern };
    case 'choice':
      return { choice: constraint.choices };
    case 'grammar':
      return { grammar: constraint.grammar };
  }
}

type Format = Readonly<Record<string, unknown>> & { readonly type: string };

/**
 * Answers that call functions, as one of XGrammar's structural tags
 * (https://xgrammar.mlc.ai/docs/tutorials/structural_tag.html); what tool-grammar.ts writes as a grammar.
 * @param constraint what an answer without calls is held to; null = any text.
 */
function structuralTag({ use, format }: AskedTools, constraint: Constraint | null): object {
  const { begin, between, end } = CALL_SHAPES[format];
  const functions = use.functions.filter(
    ({ name }) => typeof use.choice !== 'object' || use.choice.name === name,
  );
  const tags = functions.map((definition) => ({
    type: 'tag' as const,
    begin: begin + definition.name + between,
    content: jsonFormat(argumentsOf(definition)),
    end,
  }));
  const several = use.parallel && format === 'hermes';
  const calls: Format = {
    type: 'tags_with_separator',
    ...{ tags, separator: '\n', at_least_one: true, stop_after_first: !several },
  };
  const trigger = begin.slice(0, begin.indexOf('>') + 1);
  const made =
    use.choice !== 'auto'
      ? calls
      : constraint !== null
        ? either(calls, formatOf(constraint))
        : format === 'hermes'
          ? {
              type: 'triggered_tags',
              ...{ triggers: [trigger], tags, at_least_one: false, stop_after_first: !several },
            }
          : either(calls, { type: 'regex', pattern: '([^{][\\s\\S]*)?' });
  return { type: 'structural_tag', format: made };
}

/** Without a bound small models write blanks until their answer is cut. */
const jsonFormat = (json_schema: unknown): Format => ({
  type: 'json_schema',
  json_schema,
  max_whitespace_cnt: 1,
});

/** Answers that are JSON of a schema, or of any. */
const structuralJson = (schema: unknown = { type: 'object' }): object => ({
  type: 'structural_tag',
  format: jsonFormat(objectOf(schema)),
});

const either = (...elements: Format[]): Format => ({ type: 'or', elements });

const argumentsOf = ({ parameters }: FunctionDefinition): object => ({
  type: 'object',
  properties: {},
  ...parameters,
});

function formatOf(constraint: Constraint): Format {
  switch (constraint.kind) {
    case 'json_object':
      return jsonFormat({ type: 'object' });
    case 'json_schema':
      return jsonFormat(objectOf(constraint.schema));
    case 'regex':
      return { type: 'regex', pattern: constraint.pattern };
    case 'choice':
      return { type: 'or', elements: constraint.choices.map((value) => ({ type: 'const_string', value })) };
    case 'grammar':
      return { type: 'grammar', grammar: constraint.grammar };
  }
}

const objectOf = (schema: unknown): unknown =>
  typeof schema === 'string' ? (JSON.parse(schema) as unknown) : schema;
