import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { Model } from '../../protocol/completion-answers.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { Traceparent } from '../../protocol/trace-context.ts';
import type { SignatureProblem, SigningKey } from '../../protocol/signature.ts';
import type { AdapterFileStore } from '../adapter-files/adapter-store.ts';
import type { ServingEngine } from '../engine/engine.ts';
import type { Grammars } from '../grammar/ports.ts';
import type { Jobs } from '../jobs/jobs.ts';
import type { PromptServices } from '../prompts/prompt.ts';
import type { Tracer } from '../tracing/tracer.ts';
import type { Metrics } from './metrics.ts';
import type { ConnectionEnv, Serving } from './serve.ts';
import type { OriginPool } from './pool.ts';
import type { UsageMemory } from './run-prompts.ts';

/** Available once the base is loaded. */
export interface Services extends PromptServices {
  engine: ServingEngine;
  files: AdapterFileStore;
  grammars: Grammars;
}

/** Who may call, and how `model` is resolved. */
export type Mode =
  | {
      kind: 'signed';
      originId: string;
      keys: readonly SigningKey[];
      startedAt: number;
      /** New at each start; sent to edges whose clock is behind. */
      startId?: string;
    }
  /** Loopback only, unsigned, plain OpenAI bodies. */
  | {
      kind: 'dev';
      resolve(model: string, baseId: string): Result<readonly ChainEntry[], ApiError>;
      /** Adapters by name. */
      models(baseId: string): Model[];
    };

export interface OriginContext {
  mode: Mode;
  serving: Serving;
  metrics: Metrics;
  /** null or absent = no traces. */
  tracer?: Tracer | null;
  /** null while loading. */
  services: Services | null;
  /** null or absent = it does not train. */
  jobs?: Jobs | null;
  /** Wall clock, unix ms. */
  now: () => number;
  /** The engine's clock, ms: monotonic. */
  monotonic: () => number;
  /** Called with bugs; must not throw. */
  onFault: (where: string, error: unknown) => void;
  /** Usage of completions that the edge may cancel. */
  usage: UsageMemory;
  /** Called with invalid signatures. */
  onRefusedSignature?: (problem: SignatureProblem) => void;
  /** Whoever has it may read the metrics. */
  metricsToken?: string | undefined;
  /** It only listens on loopback. */
  loopbackOnly?: boolean;
  /** A stream sends a heartbeat after being quiet for this long, ms; default {@link STREAM_HEARTBEAT_MS}. */
  heartbeatMs?: number;
  /** Without a first token by then, headers are sent and errors become events of the stream, ms. */
  headersAfterMs?: number;
  /** Maximum signatures remembered at once. */
  maxNonces?: number;
}

/** Set by the middleware for the handlers. */
interface RequestVariables {
  requestId: string;
  /** On the engine's clock, ms. */
  arrivedAt: number;
  /** The request's parent trace. */
  parent: Traceparent | null;
  /** Empty for a part, whose body is streamed. */
  body: Uint8Array<ArrayBuffer>;
  /** The signature's `h`; null in dev mode. */
  bodyHash: string | null;
  /** Id of the signing key; null in dev mode. */
  kid: string | null;
  /** null in dev mode: it has no peers. */
  pool: OriginPool | null;
}
/** hono's `Env`. */
export interface OriginEnv {
  Variables: RequestVariables;
  Bindings: ConnectionEnv;
}
