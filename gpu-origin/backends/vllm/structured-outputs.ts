/**
 * Forms that answers are held to, as vLLM's `structured_outputs` has them (0.32): it compiles them itself, by XGrammar.
 * What this server's own grammars cannot hold is refused before it is asked, so that it means the same at both engines.
 */
import { ok, type Constraint } from '../../../protocol/index.ts';
import type { Grammar } from '../../engine/ports.ts';
import type { AskedForm, Grammars } from '../../grammar/ports.ts';
import { structuralJson, structuralTag } from '../../grammar/structural-tag.ts';

export type StructuredOutputs = Readonly<Record<string, unknown>>;

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
