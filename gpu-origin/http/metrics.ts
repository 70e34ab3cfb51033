import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { DiskState } from '../adapter-files/disk-room.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import type { AnswerEnd, EngineObserver, ServingEngine } from '../engine/engine.ts';
import type { JobOutcome } from '../jobs/jobs.ts';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const TOKEN_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1];
const ROWS = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64];

export type Metrics = ReturnType<typeof createMetrics>;

/**
 * No metric has a tenant or an adapter as a label, since there may be a million of them. The exception is one
 * series that lists the adapters in memory ({@link addVllmMetrics}).
 * @param registry gets the metrics.
 */
export function createMetrics(registry = new Registry()) {
  const registers = [registry];
  let engine: ServingEngine | null = null;
  let jobsRunning: () => number = () => 0;
  let disk: () => DiskState = () => ({ usedBytes: 0, budgetBytes: 0, refusing: false, refusals: 0 });

  const counter = <L extends string>(name: string, help: string, labelNames: L[] = []) =>
    new Counter({ name: `graft_${name}`, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `graft_${name}`, help, buckets, registers });
  const gauge = (name: string, help: string, read: (current: ServingEngine) => number) =>
    new Gauge({
      name: `graft_${name}`,
      help,
      registers,
      collect() {
        this.set(engine === null ? 0 : read(engine));
      },
    });

  const requests = counter('http_requests_total', 'HTTP responses.', ['route', 'status']);
  const finished = counter('requests_finished_total', 'Generation requests by outcome.', ['outcome']);
  const refused = counter('requests_refused_total', 'Generation requests refused before they were queued.', [
    'code',
  ]);
  const promptTokens = counter('prompt_tokens_total', 'Prompt tokens of finished requests.');
  const cachedTokens = counter(
    'prompt_tokens_cached_total',
    'Prompt tokens that were reused from an earlier request.',
  );
  const completionTokens = counter('completion_tokens_total', 'Generated tokens of finished requests.');
  const ttft = histogram('time_to_first_token_seconds', 'From a request to its first token.', SECONDS);
  const tpot = histogram(
    'time_per_output_token_seconds',
    'Time between two tokens of a request.',
    TOKEN_SECONDS,
  );
  const duration = histogram('request_seconds', 'From a request to its end.', SECONDS);
  const queued = histogram('queue_seconds', 'From a request to its first prefill chunk.', SECONDS);
  const batch = histogram('batch_rows', 'Rows in a decode step.', ROWS);
  const steps = counter('steps_total', 'Model steps.', ['kind']);
  const stepSeconds = counter('step_seconds_total', 'Time spent in model steps.', ['kind']);
  const preempted = counter('rows_set_aside_total', 'Preemptions of rows.');
  const loads = counter('adapter_loads_total', 'Adapters loaded into memory.', ['result']);
  const loadSeconds = histogram('adapter_load_seconds', 'From the disk to ready.', SECONDS);
  const evictions = counter('adapter_evictions_total', 'Adapters evicted from memory.');
  const clipped = counter(
    'kv_clipped_values_total',
    'Keys and values of trial prompts that were too large for int8.',
  );
  const jobsEnded = counter('jobs_ended_total', 'Fine-tuning jobs that ended, by outcome.', ['outcome']);
  const spans = counter(
    'spans_total',
    'Spans of traces: sent, dropped as too many waited, or failed to send.',
    ['outcome'],
  );
  const faults = counter('faults_total', 'Unexpected exceptions.', ['where']);

  gauge('rows_running', 'Rows in prefill and decode.', (e) => e.stats().running);
  gauge('rows_parked', 'Preempted rows that wait for their turn.', (e) => e.stats().preempted);
  gauge('requests_waiting', 'Requests in the queue.', (e) => e.stats().waiting);
  gauge('requests_loading', 'Requests that wait for an adapter.', (e) => e.stats().loading);
  gauge('slots', 'Rows that fit at once.', (e) => e.stats().slots);
  gauge('kv_tokens', 'Tokens in the KV cache.', (e) => e.stats().kvTokens);
  gauge('kv_capacity_tokens', 'Tokens that fit the KV cache.', (e) => e.stats().kvCapacity);
  gauge('prefix_cache_bytes', 'Memory used by kept prompts.', (e) => e.stats().prefixBytes ?? 0);
  gauge(
    'adapter_bytes',
    'Memory used by resident adapters, composed deltas and the rows of the batch.',
    (e) => e.residents().used_bytes,
  );
  gauge('adapter_budget_bytes', 'Memory budget for adapters.', (e) => e.residents().budget_bytes);
  gauge(
    'adapters_resident',
    'Adapters in memory.',
    (e) => e.residents().adapters.filter((a) => a.state === 'ready').length,
  );
  gauge('adapter_disk_bytes', 'Adapter files on disk.', () => disk().usedBytes);
  gauge('adapter_disk_budget_bytes', 'Disk budget for adapter files.', () => disk().budgetBytes);
  gauge('disk_full', '1 if the disk refused the last adapter.', () => Number(disk().refusing));
  gauge('disk_refusals', 'Adapters that the disk has refused since the start.', () => disk().refusals);
  gauge('jobs_running', 'Fine-tuning jobs that train now: 0 or 1.', () => jobsRunning());
  gauge('resident_memory_bytes', 'Resident memory of the process.', () => process.memoryUsage.rss());
  new Gauge({
    name: 'graft_start_time_seconds',
    help: 'Start time of the process, unix time.',
    registers,
  }).set(performance.timeOrigin / 1000);

  addVllmMetrics({ registry, read: () => engine, now: Date.now });
  const onGeneration = addGenAiMetrics(registry);

  return {
    /** Prometheus' text format. */
    text: (): Promise<string> => registry.metrics(),
    contentType: registry.contentType,
    /** Gauges are read from these when `text` is called. */
    watch(watched: ServingEngine, watchedDisk: () => DiskState): void {
      engine = watched;
      disk = watchedDisk;
    },
    watchJobs(running: () => number): void {
      jobsRunning = running;
    },
    onGeneration,
    onSpans: (outcome: 'sent' | 'dropped' | 'failed', count: number): void => spans.inc({ outcome }, count),
    onClipped: (values: number): void => clipped.inc(values),
    onJobEnd: (outcome: JobOutcome): void => jobsEnded.inc({ outcome }),
    onResponse(route: string, status: number): void {
      requests.inc({ route, status: String(status) });
    },
    observer: {
      onStep(step) {
        if (step.kind !== 'prefill') batch.observe(step.batch);
        steps.inc({ kind: step.kind });
        stepSeconds.inc({ kind: step.kind }, step.ms / 1000);
      },
      onPreempt: () => preempted.inc(),
      onFirstToken: ({ ms }) => ttft.observe(ms / 1000),
      onToken: ({ ms }) => tpot.observe(ms / 1000),
      onFinish(finish) {
        finished.inc({ outcome: finish.outcome });
        promptTokens.inc(finish.promptTokens);
        completionTokens.inc(finish.completionTokens);
        cachedTokens.inc(finish.cachedTokens ?? 0);
        duration.observe(finish.ms / 1000);
        if (finish.queuedMs !== null) queued.observe(finish.queuedMs / 1000);
      },
      onRefuse: ({ error }) => refused.inc({ code: error.code }),
      onAdapterLoad(load) {
        loads.inc({ result: load.error === null ? 'ok' : load.error.code });
        if (load.error === null) loadSeconds.observe(load.ms / 1000);
      },
      onAdapterEvict: () => evictions.inc(),
      onFault: ({ where }) => faults.inc({ where }),
    } satisfies EngineObserver,
  };
}

/** Values of OpenTelemetry's `gen_ai.operation.name`, which knows none of classification; ours is `classify`. */
export type Operation = 'chat' | 'text_completion' | 'embeddings' | 'classify';

/** A code of the API; `cancelled` when the client has gone. */
export type GenerationError = ApiError['code'] | 'cancelled';

/** A request for answers or vectors that has ended. Times are ms on the engine's clock. */
export interface MeasuredGeneration {
  readonly operation: Operation;
  readonly arrivedAt: number;
  readonly endedAt: number;
  readonly error: GenerationError | null;
  /** Its answers or inputs that ran, in the order of their ends. */
  readonly rows: readonly AnswerEnd[];
}

/** What the conventions call whoever answers: `gen_ai.provider.name`. */
export const PROVIDER = 'graft';

/**
 * Buckets of OpenTelemetry's conventions for model servers, s: semantic-conventions-genai,
 * `docs/gen-ai/gen-ai-metrics.md`.
 */
export const GEN_AI_BUCKETS = {
  request: [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92],
  firstToken: [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  perToken: [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5],
};
/** `gen_ai.request.model` is the base: adapters have too many names. */
const GEN_AI_LABELS = ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model'];

/**
 * Adds the histograms of OpenTelemetry's conventions for model servers, named as its exporter for Prometheus
 * names them.
 * @returns a function to call with each request that has ended, and the base's id.
 */
function addGenAiMetrics(registry: Registry): (base: string, ended: MeasuredGeneration) => void {
  const registers = [registry];
  const duration = new Histogram({
    name: 'gen_ai_server_request_duration_seconds',
    help: 'From a request to the last byte of its answer, or its last token. Failed ones have an error_type.',
    labelNames: [...GEN_AI_LABELS, 'error_type'],
    buckets: GEN_AI_BUCKETS.request,
    registers,
  });
  const firstToken = new Histogram({
    name: 'gen_ai_server_time_to_first_token_seconds',
    help: 'From a request to its first token, of requests that succeeded.',
    labelNames: GEN_AI_LABELS,
    buckets: GEN_AI_BUCKETS.firstToken,
    registers,
  });
  const perToken = new Histogram({
    name: 'gen_ai_server_time_per_output_token_seconds',
    help: 'Mean time per token after the first, of each answer of requests that succeeded.',
    labelNames: GEN_AI_LABELS,
    buckets: GEN_AI_BUCKETS.perToken,
    registers,
  });
  return (base, { operation, arrivedAt, endedAt, error, rows }) => {
    const labels = {
      gen_ai_operation_name: operation,
      gen_ai_provider_name: PROVIDER,
      gen_ai_request_model: base,
    };
    const seconds = (endedAt - arrivedAt) / 1000;
    if (error !== null) {
      duration.observe({ ...labels, error_type: error }, seconds);
      return;
    }
    duration.observe(labels, seconds);
    const firsts = rows.flatMap(({ times }) => times.firstTokenAt ?? []);
    if (firsts.length > 0) firstToken.observe(labels, (Math.min(...firsts) - arrivedAt) / 1000);
    for (const { completionTokens, times } of rows) {
      if (times.firstTokenAt === null || completionTokens < 2) continue;
      perToken.observe(labels, (times.endedAt - times.firstTokenAt) / 1000 / (completionTokens - 1));
    }
  };
}

/** Adapters listed in one label, 64 characters each; the least recently used are omitted. */
export const MAX_LISTED_ADAPTERS = 256;

/**
 * Adds the gauges that Kubernetes' endpoint pickers use to choose a server, under vLLM's names: for llm-d and
 * for the Gateway API Inference Extension (its "Model Server Protocol"). Adapters are digests, as everywhere
 * in an origin. A label of one series lists them, those with requests first. All ready adapters are
 * "running", even without requests: the protocol wants what is in memory and ready to serve.
 * @param read the engine; null while there is none.
 * @param now unix ms.
 */
function addVllmMetrics(params: {
  registry: Registry;
  read: () => ServingEngine | null;
  now: () => number;
}): void {
  const { registry, read, now } = params;
  const registers = [registry];
  const gauge = (name: string, help: string, of: (engine: ServingEngine) => number) =>
    new Gauge({
      name: `vllm:${name}`,
      help,
      registers,
      collect() {
        const engine = read();
        this.set(engine === null ? 0 : of(engine));
      },
    });

  gauge('num_requests_running', 'Requests in the batch.', (engine) => engine.stats().running);
  gauge('num_requests_waiting', 'Requests that wait for a row, an adapter or their turn.', (engine) => {
    const { waiting, loading, preempted } = engine.stats();
    return waiting + loading + preempted;
  });
  gauge('kv_cache_usage_perc', 'Share of the KV cache in use, 0 to 1.', (engine) => {
    const { kvTokens, kvCapacity } = engine.stats();
    return kvCapacity === 0 ? 0 : Math.min(1, kvTokens / kvCapacity);
  });
  new Gauge({
    name: 'vllm:lora_requests_info',
    help: 'Adapters by hash: in memory, and loading. The value is the time, unix s.',
    labelNames: ['max_lora', 'running_lora_adapters', 'waiting_lora_adapters'],
    registers,
    collect() {
      this.reset();
      const engine = read();
      if (engine === null) return;
      const { slots, maxChains = slots } = engine.stats();
      const { adapters } = engine.residents();
      const listed = (state: 'ready' | 'loading'): string =>
        adapters
          .filter((one) => one.state === state)
          // The list is least recently used first.
          .reverse()
          .sort((a, b) => Number(b.references > 0) - Number(a.references > 0))
          .slice(0, MAX_LISTED_ADAPTERS)
          .map(({ digest }) => digest)
          .join(',');
      this.set(
        {
          max_lora: String(maxChains),
          running_lora_adapters: listed('ready'),
          waiting_lora_adapters: listed('loading'),
        },
        now() / 1_000,
      );
    },
  });
}
