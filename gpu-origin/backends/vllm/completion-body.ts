/** Requests to vLLM: the tokens of an answer, sampled there as requested. */
import { type ApiError, err, ok, type Result } from '../../../protocol/api-error.ts';
import type { FinishReason, Usage } from '../../../protocol/completion-answers.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { Constraint, FunctionDefinition } from '../../../protocol/request-fields.ts';
import {
  timesOf,
  type EngineHandle,
  type EngineObserver,
  type EngineRequest,
  type ScoredToken,
  type TokenScore,
} from '../../engine/engine.ts';
import { tokenOf, type StreamChunk, type VllmCompletion } from './vllm-client.ts';
import type { Grammar, Outcome } from '../../engine/ports.ts';
import type { AskedForm, AskedTools, Grammars } from '../../grammar/ports.ts';
import { CALL_SHAPES } from '../../grammar/constraint-grammar.ts';
import { Answer, type AnswerPart, EventChannel } from '../../engine/sequence.ts';
import type { TokenBytes } from '../../generation/answer-text.ts';

/** vLLM's default of `--max-logprobs`; it refuses more. */
export const MAX_LOGPROBS = 20;

/** @returns why this engine does not support it; null = it does. */
export function cannotDo({ pooling, classifies, promptLogprobs }: EngineRequest): ApiError | null {
  const refuse = (what: string, param: string): ApiError => ({
    code: 'unsupported_parameter',
    message: `${what} by this origin's engine (vLLM). Use an origin that runs the model itself.`,
    param,
  });
  // `PEFTHelper` refuses adapters with `modules_to_save` (vllm `lora/peft_helper.py`).
  if (classifies === true) return refuse('Classification heads are not served', 'model');
  if (pooling !== undefined) return refuse('Embeddings are not made', 'input');
  // vLLM 0.32's CPU backend crashes on them along with an adapter (punica_cpu's add_lora_logits), and ends all
  // its runs.
  return promptLogprobs === null ? null : refuse('Prompt scores are not returned', 'prompt_logprobs');
}

/**
 * @param generated tokens of the answer so far: a preempted run continues after them. Penalties then count them
 * as prompt, which changes the effect of frequency and presence penalties on them.
 * @param most tokens that may still be generated.
 */
export function completionBody(params: {
  model: string;
  request: EngineRequest;
  seed: number | null;
  generated: readonly number[];
  most: number;
  salt: string;
}): VllmCompletion {
  const { model, request, seed, generated, most, salt } = params;
  const { sampling, prompt } = request;
  const { adjustments: adjusted } = sampling;
  const bias = adjusted?.bias ?? [];
  const form = formOf(request);
  return {
    model,
    prompt: [...prompt, ...generated],
    max_tokens: most,
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK ?? 0,
    min_p: sampling.minP,
    // Each part of an answer has its own stream of draws, always the same one.
    ...(seed === null ? {} : { seed: seed + generated.length }),
    repetition_penalty: adjusted?.repetition ?? 1,
    frequency_penalty: adjusted?.frequency ?? 0,
    presence_penalty: adjusted?.presence ?? 0,
    ...(bias.length === 0 ? {} : { logit_bias: Object.fromEntries(bias) }),
    stop_token_ids: sampling.stopTokens,
    // A constrained answer ends where its form ends.
    ignore_eos: sampling.ignoreEos && form === null,
    min_tokens: form === null ? Math.max(0, sampling.minTokens - generated.length) : 0,
    ...(form === null ? {} : { structured_outputs: form.outputs }),
    ...(sampling.logprobs === null ? {} : { logprobs: Math.min(sampling.logprobs, MAX_LOGPROBS) }),
    return_token_ids: true,
    return_tokens_as_token_ids: true,
    add_special_tokens: false,
    // One tenant must not discover another's prompts in the prefix cache.
    cache_salt: salt,
  };
}

/** @throws Error for grammars compiled by another engine. */
export function formOf({ grammar }: EngineRequest): FormAtVllm | null {
  if (grammar == null) return null;
  if (!(grammar instanceof FormAtVllm)) throw new Error('a grammar of another engine');
  return grammar;
}

/** The tokens of an event; an error if it reports fewer of them than requested. */
export function tokensOf(chunk: StreamChunk, wanted: number | null): Result<readonly ScoredToken[], string> {
  const tokens: ScoredToken[] = [];
  for (const { token_ids: ids, logprobs } of chunk.choices) {
    if (ids == null) {
      if (logprobs != null) return err('tokens without their ids');
      continue;
    }
    if (wanted !== null && logprobs?.tokens.length !== ids.length) return err('tokens without their scores');
    for (const [at, id] of ids.entries()) {
      if (wanted === null || logprobs == null) {
        tokens.push({ id, logprob: null, top: [] });
        continue;
      }
      const top = Object.entries(logprobs.top_logprobs?.[at] ?? {});
      tokens.push({ id, logprob: logprobs.token_logprobs[at] ?? null, top: likeliest(top, wanted) });
    }
  }
  return ok(tokens);
}

/** @param entries by `token_id:<id>`. */
const likeliest = (entries: readonly (readonly [string, number])[], most: number): TokenScore[] =>
  entries
    .map(([token, logprob]) => ({ id: tokenOf(token), logprob }))
    .sort((a, b) => b.logprob - a.logprob || a.id - b.id)
    .slice(0, most);

type StructuredOutputs = Readonly<Record<string, unknown>>;

/**
 * An answer's constraint as vLLM's `structured_outputs` (0.32), which vLLM compiles itself with XGrammar.
 * Whatever this server's own grammars do not support is refused before, so that both engines behave alike.
 */
class FormAtVllm implements Grammar {
  readonly outputs: StructuredOutputs;

  constructor(asked: AskedForm) {
    this.outputs = outputsOf(asked);
  }

  open(): never {
    throw new Error('vLLM constrains its answers itself');
  }

  release(): void {
    // Nothing is stored.
  }
}

/** @param checks validates against this server's own grammars, in another thread; compiles nothing. */
export const vllmGrammars = (checks: Grammars): Grammars => ({
  async prepare(request) {
    const checked = await checks.prepare(request);
    if (!checked.ok) return checked;
    checked.value.release();
    return ok(new FormAtVllm(request.asked));
  },
  update: () => {
    throw new Error('answers of vLLM are not constrained here');
  },
  close: () => checks.close(),
});

const tag = (structural: object): StructuredOutputs => ({ structural_tag: JSON.stringify(structural) });

function outputsOf(asked: AskedForm): StructuredOutputs {
  const { tools } = asked;
  const constraint = asked.constraint?.constraint ?? null;
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
 * Answers with function calls, as one of XGrammar's structural tags
 * (https://xgrammar.mlc.ai/docs/tutorials/structural_tag.html); the equivalent of constraint-grammar.ts.
 * @param constraint of an answer without calls; null = any text.
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

/** Without a bound small models write white space until their answer is cut. */
const jsonFormat = (json_schema: unknown): Format => ({
  type: 'json_schema',
  json_schema,
  max_whitespace_cnt: 1,
});

/** JSON answers, with or without a schema. */
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

/** One answer's life: it waits for its turn, runs at vLLM once or several times, and ends once. */
export class VllmRun {
  readonly request: EngineRequest;
  readonly seed: number | null;
  /** Empty for the base. */
  readonly chainId: string;
  readonly chain: readonly ChainEntry[];
  readonly maxTokens: number;
  readonly addedAt: number;
  readonly answer: Answer;
  readonly events: EventChannel;
  /** Restarts because vLLM had forgotten the chain. */
  retries = 0;
  /** It began to wait for vLLM to load its chain. */
  loadingAt: number | null = null;
  /** … and had it. */
  loadedAt: number | null = null;
  startedAt: number | null = null;
  firstTokenAt: number | null = null;
  lastTokenAt: number | null = null;
  ended = false;
  /** Others have their turn; it continues in its next one. */
  aside = false;
  /** Of its request in progress at vLLM. */
  #under = new AbortController();
  #onEnd: () => void = () => undefined;

  constructor(params: {
    request: EngineRequest;
    seed: number | null;
    chainId: string;
    chain: readonly ChainEntry[];
    maxTokens: number;
    addedAt: number;
    tokens: TokenBytes;
    eos: ReadonlySet<number>;
    /** Called when it is to be aborted. */
    onAbort: (run: VllmRun) => void;
  }) {
    const { request, seed, tokens, eos, maxTokens } = params;
    this.request = request;
    this.seed = seed;
    this.chainId = params.chainId;
    this.chain = params.chain;
    this.maxTokens = maxTokens;
    this.addedAt = params.addedAt;
    this.answer = new Answer({
      ...{ sampling: { ...request.sampling, seed }, prompt: [], maxTokens, eos, tokens },
      // vLLM samples the tokens.
      random: () => 0,
      grammar: null,
    });
    const abort = (): void => params.onAbort(this);
    this.events = new EventChannel(abort);
    this.handle = {
      id: request.id,
      promptTokens: request.prompt.length,
      maxTokens,
      events: this.events,
      abort,
    };
    request.signal?.addEventListener('abort', abort, { once: true });
    this.#onEnd = () => request.signal?.removeEventListener('abort', abort);
  }

  readonly handle: EngineHandle;

  get tenant(): string {
    return this.request.tenant;
  }

  get usage(): Usage {
    const [prompt, completion] = [this.request.prompt.length, this.answer.ids.length];
    return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
  }

  /** Token budget reserved while it runs. */
  get length(): number {
    return this.request.prompt.length + this.answer.ids.length;
  }

  /** For the observer, at its end. @param now on the clock of `addedAt`, ms. */
  summary(now: number): Omit<Parameters<NonNullable<EngineObserver['onFinish']>>[0], 'outcome' | 'error'> {
    return {
      ...namesOf(this.request),
      promptTokens: this.request.prompt.length,
      completionTokens: this.answer.ids.length,
      ms: now - this.addedAt,
      queuedMs: this.startedAt === null ? null : this.startedAt - this.addedAt,
    };
  }

  /** Of a new part of it at vLLM. */
  begin(): AbortSignal {
    this.aside = false;
    this.#under = new AbortController();
    return this.#under.signal;
  }

  /** Ends its request at vLLM. */
  stop(): void {
    this.#under.abort();
  }

  /** @returns false when the reader is too far behind. */
  tell({ text, tokens }: Omit<AnswerPart, 'finish'>): boolean {
    if (text === '' && tokens.length === 0) return true;
    return this.events.push({ kind: 'tokens', text, tokens });
  }

  /** @param at on the clock of `addedAt`, ms, as below. */
  finish(finishReason: FinishReason, at: number): void {
    const { stop, ids } = this.answer;
    this.#end(outcomeOf(finishReason), null, at);
    this.events.push({
      ...{ kind: 'end', finishReason, usage: this.usage, tokenIds: ids },
      ...(stop === null ? {} : { stop }),
    });
  }

  fail(error: ApiError, at: number): void {
    this.#end('failed', error, at);
    this.events.push({ kind: 'error', error, usage: this.usage });
  }

  endAborted(at: number): void {
    this.#end('aborted', null, at);
    this.events.push({ kind: 'aborted', usage: this.usage });
  }

  #end(outcome: Outcome, error: ApiError | null, endedAt: number): void {
    this.ended = true;
    this.#onEnd();
    this.request.onEnd?.({
      promptTokens: this.startedAt === null ? 0 : this.request.prompt.length,
      completionTokens: this.answer.ids.length,
      // vLLM's own; its answers do not say.
      cachedTokens: 0,
      outcome,
      error,
      times: timesOf(this, endedAt),
    });
  }
}

/** A request's fields in logs. */
export const namesOf = ({ id, tenant, parent }: EngineRequest) => ({ id, tenant, traceId: parent?.traceId });

export const outcomeOf = (finish: FinishReason): Outcome => (finish === 'length' ? 'length' : 'stop');
