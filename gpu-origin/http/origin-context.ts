import type { ApiError, Result } from '../../protocol/api-error.ts';
import type { Model } from '../../protocol/completion-answers.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { Traceparent } from '../../protocol/origin-wire.ts';
import type { SignatureProblem, SigningKey } from '../../protocol/signature.ts';
import type { AdapterFileStore } from '../adapter-files/adapter-store.ts';
import type { ServingEngine } from '../engine/engine.ts';
import type { Grammars } from '../grammar/ports.ts';
import type { PromptServices } from '../prompts/prompt.ts';
import type { Metrics } from './metrics.ts';
import type { ConnectionEnv, Serving } from './serve.ts';
import type { UsageMemory } from './run-prompts.ts';

/** What there is once the base is loaded. */
export interface Services extends PromptServices {
  engine: ServingEngine;
  files: AdapterFileStore;
  grammars: Grammars;
}

/** Who may call, and what `model` means. */
export type Mode =
  | {
      kind: 'signed';
      originId: string;
      keys: readonly SigningKey[];
      startedAt: number;
      /** New at each start; told to edges whose clock is behind. */
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
  /** null while loading. */
  services: Services | null;
  /** Wall clock, unix ms. */
  now: () => number;
  /** Hears of bugs; must not throw. */
  onFault: (where: string, error: unknown) => void;
  /** Of completions; the edge cancels those that were left. */
  usage: UsageMemory;
  /** Hears of signatures that are not good. */
  onRefusedSignature?: (problem: SignatureProblem) => void;
  /** Who has it may read the metrics. */
  metricsToken?: string | undefined;
  /** It listens on loopback alone. */
  loopbackOnly?: boolean;
  /** A stream says something when it was quiet for this long, ms; {@link STREAM_HEARTBEAT_MS} unless given. */
  heartbeatMs?: number;
  /** Without a first token until then, headers are sent and errors come inside the stream, ms. */
  headersAfterMs?: number;
  /** Signatures that may be kept in mind at once. */
  maxNonces?: number;
}

/** What the middleware leaves for the handlers. */
interface RequestVariables {
  requestId: string;
  /** The trace that it belongs to. */
  parent: Traceparent | null;
  /** Empty for a part, whose body is streamed. */
  body: Uint8Array<ArrayBuffer>;
  /** The signature's `h`; null in dev mode. */
  bodyHash: string | null;
  /** Whose signature it is; null in dev mode. */
  kid: string | null;
}
/** hono's `Env`. */
export interface OriginEnv {
  Variables: RequestVariables;
  Bindings: ConnectionEnv;
}
