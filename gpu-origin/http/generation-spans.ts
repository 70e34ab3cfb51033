/** The spans of one request. No attribute has a word of a prompt, an answer, a tool or a stop string. */
import { createHash } from 'node:crypto';
import { type ChainEntry, chainText } from '../../protocol/identity.ts';
import type { Attributes, Span } from '../../protocol/otlp.ts';
import { childOf, type Traceparent } from '../../protocol/trace-context.ts';
import type { AnswerEnd } from '../engine/engine.ts';
import { samplingParamsOf, type GenerationRequest } from '../generation/sampler.ts';
import { type MeasuredGeneration, PROVIDER } from './metrics.ts';
import type { Directive } from './read-request.ts';

/** A request that has ended. */
export interface EndedGeneration extends MeasuredGeneration {
  /** Of all its prompts, each counted once. */
  readonly promptTokens: number;
  /** Of the HTTP response; 500 if none was made. */
  readonly status: number;
  /** null if its body was not valid. */
  readonly asked: { readonly directive: Directive; readonly request: GenerationRequest | null } | null;
}

/** Answers of a request whose stages have spans of their own. */
const MAX_TRACED_ROWS = 8;

export interface SpanContext {
  /** The request's own span. */
  span: Traceparent;
  /** The sender's. */
  parent: Traceparent | null;
  requestId: string;
  route: string;
  base: string;
  /** The newest names of `gen_ai.*`. */
  latestNames: boolean;
  /** Unix ms minus the engine's clock. */
  offsetMs: number;
}

/** The request's span first, then those of its answers' stages. */
export function spansOf(ended: EndedGeneration, context: SpanContext): Span[] {
  const { span, parent, offsetMs } = context;
  const model = ended.asked?.directive.model;
  const request: Span = {
    name: model === undefined ? ended.operation : `${ended.operation} ${model}`,
    kind: 'server',
    ...span,
    parentSpanId: parent?.spanId ?? null,
    parentIsRemote: parent !== null,
    startMs: ended.arrivedAt + offsetMs,
    endMs: ended.endedAt + offsetMs,
    attributes: { ...attributesOf(ended, context), ...latenciesOf(ended), ...adapterOf(ended) },
    // A client's mistake is none of the server's: OpenTelemetry's conventions for HTTP.
    failed: ended.status >= 500 || ended.rows.some(({ outcome }) => outcome === 'failed'),
  };
  const several = ended.rows.length > 1;
  const stages = ended.rows
    .slice(0, MAX_TRACED_ROWS)
    .flatMap((row, index) => stagesOf(row, several ? index : null));
  return [
    request,
    ...stages.map(({ name, from, to, attributes, failed }): Span => ({
      name,
      kind: 'internal',
      ...childOf(span),
      parentSpanId: span.spanId,
      parentIsRemote: false,
      startMs: from + offsetMs,
      endMs: to + offsetMs,
      attributes,
      failed,
    })),
  ];
}

function attributesOf(ended: EndedGeneration, context: SpanContext): Attributes {
  const { latestNames } = context;
  const { rows, asked, promptTokens: input } = ended;
  const cached = rows.reduce((most, row) => Math.max(most, row.cachedTokens), 0);
  const output = rows.reduce((sum, row) => sum + row.completionTokens, 0);
  const reasons = rows.flatMap(({ outcome }) => (outcome === 'stop' || outcome === 'length' ? outcome : []));
  return {
    [latestNames ? 'gen_ai.provider.name' : 'gen_ai.system']: PROVIDER,
    'gen_ai.operation.name': ended.operation,
    'gen_ai.request.model': asked?.directive.model,
    'gen_ai.response.model': asked?.directive.model,
    'gen_ai.request.id': asked?.directive.requestId ?? context.requestId,
    ...(asked?.request == null ? {} : settingsOf(asked.request, latestNames)),
    'gen_ai.usage.input_tokens': rows.length === 0 ? null : input,
    'gen_ai.usage.output_tokens': rows.length === 0 ? null : output,
    // vLLM's names, which its users' boards have.
    'gen_ai.usage.prompt_tokens': latestNames || rows.length === 0 ? null : input,
    'gen_ai.usage.completion_tokens': latestNames || rows.length === 0 ? null : output,
    'gen_ai.usage.cache_read.input_tokens': latestNames && rows.length > 0 ? cached : null,
    'gen_ai.response.finish_reasons': reasons.length === 0 ? null : reasons,
    'http.request.method': 'POST',
    'http.route': context.route,
    'url.path': context.route,
    'url.scheme': 'http',
    'http.response.status_code': ended.status,
    'error.type': ended.error,
    'graft.base': context.base,
  };
}

function settingsOf(request: GenerationRequest, latestNames: boolean): Attributes {
  const { maxTokens, temperature, topP, topK, seed } = samplingParamsOf(request);
  const choices = 'n' in request ? (request.n ?? 1) : 1;
  return {
    'gen_ai.request.max_tokens': maxTokens,
    'gen_ai.request.temperature': temperature,
    'gen_ai.request.top_p': topP,
    'gen_ai.request.top_k': topK,
    'gen_ai.request.seed': seed,
    'gen_ai.request.choice.count': choices === 1 ? null : choices,
    // vLLM's name.
    'gen_ai.request.n': latestNames ? null : choices,
    'gen_ai.request.stream': latestNames ? request.stream === true : null,
  };
}

/** As vLLM and SGLang set them, s: of the answer that had its first token first. */
function latenciesOf({ rows, arrivedAt, endedAt }: EndedGeneration): Attributes {
  const begun = rows.filter(({ times }) => times.startedAt !== null);
  const first = begun.toSorted((a, b) => firstOf(a) - firstOf(b))[0];
  const between = (from: number | null, to: number | null): number | null =>
    from === null || to === null ? null : (to - from) / 1_000;
  const times = first?.times;
  return {
    'gen_ai.latency.e2e': between(arrivedAt, endedAt),
    ...(times === undefined
      ? {}
      : {
          'gen_ai.latency.time_in_queue': between(times.addedAt, times.startedAt),
          'gen_ai.latency.time_to_first_token': between(arrivedAt, times.firstTokenAt),
          'gen_ai.latency.time_in_model_prefill': between(times.startedAt, times.firstTokenAt),
          'gen_ai.latency.time_in_model_decode': between(times.firstTokenAt, times.endedAt),
          'gen_ai.latency.time_in_model_inference': between(times.startedAt, times.endedAt),
        }),
  };
}

const firstOf = ({ times }: AnswerEnd): number => times.firstTokenAt ?? Infinity;

function adapterOf({ asked, rows }: EndedGeneration): Attributes {
  if (asked === null) return {};
  const { tenant, chain, model, adapter, experiment } = asked.directive;
  const last = chain.at(-1);
  const whose = {
    'graft.adapter.tenant': tenant,
    'graft.adapter.experiment': experiment?.id,
    'graft.adapter.variant': experiment?.variant,
  };
  if (last === undefined) return whose;
  const loads = rows.flatMap(({ times: { loadingAt, loadedAt } }) =>
    loadingAt === null || loadedAt === null ? [] : loadedAt - loadingAt,
  );
  return {
    ...whose,
    'graft.adapter.name': adapter?.name ?? model,
    'graft.adapter.version': adapter?.version,
    'graft.adapter.digest': last.digest,
    'graft.adapter.chain_id': idOf(chain),
    'graft.adapter.cold_load_ms': loads.length === 0 ? null : Math.round(Math.max(...loads)),
  };
}

/** `chainId` of protocol/identity.ts, at once. */
const idOf = (chain: readonly ChainEntry[]): string =>
  createHash('sha256').update(chainText(chain)).digest('hex');

interface Stage {
  name: 'queue' | 'load adapter' | 'prefill' | 'decode';
  from: number;
  to: number;
  attributes: Attributes;
  failed: boolean;
}

/** The last stage of a row that failed has failed. @param index of several answers. */
function stagesOf({ times, outcome, ...used }: AnswerEnd, index: number | null): Stage[] {
  const { addedAt, loadingAt, loadedAt, startedAt, firstTokenAt, endedAt } = times;
  const row = { 'graft.answer': index };
  const stages: Stage[] = [
    { name: 'queue', from: addedAt, to: startedAt ?? endedAt, attributes: row, failed: false },
  ];
  if (loadingAt !== null)
    stages.push({
      name: 'load adapter',
      from: loadingAt,
      to: loadedAt ?? endedAt,
      attributes: row,
      failed: false,
    });
  if (startedAt !== null) {
    const attributes = {
      ...row,
      'gen_ai.usage.input_tokens': used.promptTokens,
      'graft.cached_tokens': used.cachedTokens,
    };
    stages.push({ name: 'prefill', from: startedAt, to: firstTokenAt ?? endedAt, attributes, failed: false });
  }
  if (firstTokenAt !== null) {
    const attributes = { ...row, 'gen_ai.usage.output_tokens': used.completionTokens };
    stages.push({ name: 'decode', from: firstTokenAt, to: endedAt, attributes, failed: false });
  }
  const last = stages.at(-1);
  if (last !== undefined) last.failed = outcome === 'failed';
  return stages;
}
