import { homedir } from 'node:os';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { nameProblem } from '../protocol/identity.ts';
import { parseSigningKeys, type SigningKey } from '../protocol/signature.ts';

/** Wrong flags or environment; the message is for the operator. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

export interface NamedFolder {
  name: string;
  folder: string;
  /** Name of the adapter that this one was trained on. */
  parent: string | null;
}

/** A vLLM server that runs the model. */
export interface VllmConfig {
  /** Without a path. */
  url: string;
  apiKey: string | undefined;
  /** Its `--max-loras`: distinct adapters in a batch. */
  maxLoras: number;
  /** Its `--max-lora-rank`. */
  maxLoraRank: number;
  /** Its `--max-cpu-loras`: adapters that it keeps. */
  maxCpuLoras: number;
  /** Requests at vLLM at once. */
  requests: number;
}

export interface Config {
  basePath: string;
  baseId: string | undefined;
  weights: 'int8' | 'int4' | 'f32';
  /**
   * Runtime of the graphs: ONNX Runtime's native library, the same on a GPU, its WebAssembly, or the best
   * available.
   */
  provider: 'auto' | 'cpu' | 'webgpu' | 'web';
  /**
   * Precision of activations, keys and values: float16 if a GPU supports it and its answers match float32, or
   * float32.
   */
  precision: 'auto' | 'f32' | 'f16';
  /** Format of keys and values on a processor. */
  kv: 'auto' | 'int8' | 'f32';
  /** null = the origin runs the model itself. */
  vllm: VllmConfig | null;
  host: string;
  port: number;
  /** Rows that run at once; undefined = as many as fit in memory. */
  slots: number | undefined;
  context: number | undefined;
  threads: number | undefined;
  maxQueue: number;
  adapterRamBytes: number;
  /** null = by the memory. */
  prefixCacheBytes: number | null;
  adapterDiskBytes: number;
  cacheDir: string;
  /** It trains jobs of its edges. */
  train: boolean;
  /** `dev` serves plain OpenAI bodies to this machine; `signed` only what a worker signed. */
  mode: { kind: 'dev'; adapters: NamedFolder[] } | { kind: 'signed'; originId: string; keys: SigningKey[] };
  /** From SIGTERM to the first refusal, so that a load balancer can react, ms. */
  graceMs: number;
  /** Share of the requests that are logged, 0 to 1. */
  logSample: number;
  /** Token that allows reading metrics from anywhere. */
  metricsToken: string | undefined;
  /** It listens on loopback alone. */
  loopbackOnly: boolean;
}

/** vLLM 0.32's values of `--max-lora-rank` (`vllm/config/lora.py`). */
const VLLM_RANKS = [1, 8, 16, 32, 64, 128, 256, 320, 512];

const LOOPBACK = /^(127\.\d+\.\d+\.\d+|::1|localhost)$/;

/**
 * @param args without node and the script.
 * @returns null when help was requested.
 * @throws ConfigError
 */
export function readConfig(args: readonly string[], env: NodeJS.ProcessEnv): Config | null {
  const flags = parseFlags(args);
  if (flags.help) return null;
  for (const key of Object.keys(env))
    if (key.startsWith('GRAFT_ORIGIN_') && key !== 'GRAFT_ORIGIN_KEYS')
      throw new ConfigError(`unknown environment variable ${key}. Did you mean GRAFT_ORIGIN_KEYS?`);
  if (flags.base === undefined) throw new ConfigError('--base <folder | file.gguf> is missing. See --help');
  const host = flags.host ?? DEFAULTS.host;
  const vllm = vllmConfig(flags, env);
  const local = LOOPBACK.test(host);
  if (flags.dev && !local)
    throw new ConfigError(
      `--dev serves this machine only, without signatures. Leave --host ${host} out, or leave --dev out`,
    );
  return {
    basePath: resolve(flags.base),
    baseId: flags['base-id'],
    weights: oneOf('weights', flags.weights ?? 'int8', ['int8', 'int4', 'f32']),
    provider: oneOf('provider', flags.provider ?? 'auto', ['auto', 'cpu', 'webgpu', 'web']),
    precision: oneOf('precision', flags.precision ?? 'auto', ['auto', 'f32', 'f16']),
    kv: oneOf('kv', flags.kv ?? 'auto', ['auto', 'int8', 'f32']),
    vllm,
    host,
    port: whole('port', flags.port, 0, 65_535) ?? DEFAULTS.port,
    slots: slotsOf(flags),
    context: whole('context', flags.context, 16, 10_000_000),
    threads: whole('threads', flags.threads, 1, 1_024),
    maxQueue: whole('max-queue', flags['max-queue'], 0, 1_000_000) ?? DEFAULTS.maxQueue,
    adapterRamBytes:
      whole('adapter-ram-bytes', flags['adapter-ram-bytes'], 0, Number.MAX_SAFE_INTEGER) ?? DEFAULTS.ram,
    prefixCacheBytes:
      whole('prefix-cache-bytes', flags['prefix-cache-bytes'], 0, Number.MAX_SAFE_INTEGER) ?? null,
    adapterDiskBytes:
      whole('adapter-disk-bytes', flags['adapter-disk-bytes'], 0, Number.MAX_SAFE_INTEGER) ?? DEFAULTS.disk,
    cacheDir: resolve(flags.cache ?? env['GRAFT_CACHE'] ?? resolve(homedir(), '.cache/graft')),
    train: trains(flags),
    mode: flags.dev
      ? { kind: 'dev', adapters: namedFolders(flags.adapter ?? [], flags.parent ?? []) }
      : signedMode(flags, env),
    logSample: share('log-sample', flags['log-sample']) ?? 0,
    metricsToken: metricsToken(env['GRAFT_METRICS_TOKEN']),
    loopbackOnly: local,
    graceMs: whole('grace-ms', flags['grace-ms'], 0, 600_000) ?? (local ? 0 : REMOTE_GRACE_MS),
  };
}

function parseFlags(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new ConfigError((error as Error).message.split('\n')[0] ?? 'wrong flags');
  }
}

function trains({ train = false, engine }: ReturnType<typeof parseFlags>): boolean {
  if (train && engine === 'vllm')
    throw new ConfigError('--train needs --engine native: beside vLLM, use `graft train`');
  return train;
}

const slotsOf = (flags: ReturnType<typeof parseFlags>): number | undefined =>
  whole('slots', flags.slots, 1, 1_024);

const VLLM_FLAGS = ['engine-url', 'max-loras', 'max-lora-rank', 'max-cpu-loras'] as const;

function vllmConfig(flags: ReturnType<typeof parseFlags>, env: NodeJS.ProcessEnv): VllmConfig | null {
  if (oneOf('engine', flags.engine ?? 'native', ['native', 'vllm']) === 'native') {
    const given = VLLM_FLAGS.find((flag) => flags[flag] !== undefined);
    if (given !== undefined) throw new ConfigError(`--${given} needs --engine vllm`);
    return null;
  }
  for (const flag of ['provider', 'precision', 'kv'] as const)
    if (flags[flag] !== undefined) throw new ConfigError(`--${flag} needs --engine native`);
  const maxLoras = whole('max-loras', flags['max-loras'], 1, 4_096) ?? VLLM_DEFAULTS.maxLoras;
  const maxCpuLoras = whole('max-cpu-loras', flags['max-cpu-loras'], 1, 65_536) ?? maxLoras;
  if (maxCpuLoras < maxLoras)
    throw new ConfigError(`--max-cpu-loras ${maxCpuLoras} must be at least --max-loras ${maxLoras}`);
  return {
    url: engineUrl(flags['engine-url']),
    apiKey: env['GRAFT_ENGINE_KEY'] || undefined,
    maxLoras,
    maxLoraRank: loraRank(flags['max-lora-rank']),
    maxCpuLoras,
    requests: slotsOf(flags) ?? VLLM_DEFAULTS.slots,
  };
}

function loraRank(text: string | undefined): number {
  const rank = whole('max-lora-rank', text, 1, 4_096) ?? VLLM_DEFAULTS.maxLoraRank;
  if (VLLM_RANKS.includes(rank)) return rank;
  const next = VLLM_RANKS.find((one) => one > rank) ?? VLLM_RANKS.at(-1);
  throw new ConfigError(
    `--max-lora-rank ${rank}: vLLM supports ${VLLM_RANKS.join(', ')}. Start vLLM with ${next}, and ` +
      'give the same value here',
  );
}

function engineUrl(text: string | undefined): string {
  if (text === undefined)
    throw new ConfigError('--engine vllm needs --engine-url, such as http://127.0.0.1:8000');
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== '' || url.search !== '')
    throw new ConfigError(`--engine-url ${text} is not a server's address, such as http://127.0.0.1:8000`);
  return url.href.replace(/\/(v1\/?)?$/, '');
}

function signedMode(flags: ReturnType<typeof parseFlags>, env: NodeJS.ProcessEnv): Config['mode'] {
  if (flags.adapter !== undefined || flags.parent !== undefined)
    throw new ConfigError('--adapter and --parent need --dev; otherwise the worker sends the adapters');
  const originId = flags['origin-id'];
  const keys = env['GRAFT_ORIGIN_KEYS'];
  if (originId === undefined || !keys)
    throw new ConfigError(
      '--origin-id and GRAFT_ORIGIN_KEYS are missing. Run `graft secrets <folder>` and use the keys ' +
        'in <folder>/origin.env, or use --dev for a standalone origin',
    );
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(originId))
    throw new ConfigError('--origin-id must be 1 to 64 letters, digits, ".", "_" and "-"');
  try {
    return { kind: 'signed', originId, keys: parseSigningKeys(keys) };
  } catch (error) {
    throw new ConfigError(`GRAFT_ORIGIN_KEYS: ${(error as Error).message}`);
  }
}

/** Short ones can be guessed. */
const MIN_TOKEN_CHARACTERS = 16;

function metricsToken(text: string | undefined): string | undefined {
  if (text === undefined || text === '') return undefined;
  if (/^[\x21-\x7e]+$/.test(text) && text.length >= MIN_TOKEN_CHARACTERS) return text;
  throw new ConfigError(
    `GRAFT_METRICS_TOKEN must be at least ${MIN_TOKEN_CHARACTERS} printable characters without spaces. ` +
      'Run openssl rand -hex 32 to make one',
  );
}

function namedFolders(adapters: readonly string[], parents: readonly string[]): NamedFolder[] {
  const folders = pairs('adapter', adapters);
  const above = pairs('parent', parents);
  for (const [name, parent] of above)
    for (const one of [name, parent])
      if (!folders.has(one))
        throw new ConfigError(`--parent ${name}=${parent}: there is no --adapter ${one}=…`);
  for (const start of folders.keys()) {
    const seen = new Set<string>();
    for (let at: string | undefined = start; at !== undefined; at = above.get(at)) {
      if (seen.has(at)) throw new ConfigError(`--parent: ${at} would be its own ancestor`);
      seen.add(at);
    }
  }
  return [...folders].map(([name, folder]) => ({
    name,
    folder: resolve(folder),
    parent: above.get(name) ?? null,
  }));
}

function pairs(flag: string, entries: readonly string[]): Map<string, string> {
  const map = new Map<string, string>();
  for (const entry of entries) {
    const at = entry.indexOf('=');
    const name = entry.slice(0, Math.max(at, 0));
    const problem = at < 1 ? 'it must be NAME=VALUE' : nameProblem(name);
    if (problem !== null) throw new ConfigError(`--${flag} ${JSON.stringify(entry)}: ${problem}`);
    if (map.has(name)) throw new ConfigError(`--${flag} ${name} is given twice`);
    map.set(name, entry.slice(at + 1));
  }
  return map;
}

function whole(flag: string, text: string | undefined, min: number, max: number): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= min && value <= max) return value;
  throw new ConfigError(`--${flag} must be a whole number from ${min} to ${max}`);
}

function share(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (/^(\d|\d?\.\d+)$/.test(text) && value <= 1) return value;
  throw new ConfigError(`--${flag} must be a number from 0 to 1`);
}

function oneOf<T extends string>(flag: string, text: string, values: readonly T[]): T {
  const value = values.find((candidate) => candidate === text);
  if (value !== undefined) return value;
  throw new ConfigError(`--${flag} must be ${values.slice(0, -1).join(', ')} or ${values.at(-1)}`);
}

/** The origin's flags: their names, defaults and help. */
const GiB = 1024 ** 3;
const DEFAULTS = { host: '127.0.0.1', port: 8788, maxQueue: 256, ram: GiB, disk: 10 * GiB };
const REMOTE_GRACE_MS = 5_000;
/** Defaults of vLLM 0.32. */
const VLLM_DEFAULTS = { maxLoras: 1, maxLoraRank: 16, slots: 64 };

export const HELP = `gpu-origin: serves a base model, with a different adapter in each row if needed

  --base <path>                a .gguf file or a Hugging Face folder (required)
  --base-id <id>               id to serve it under; default: from its name
  --weights int8|int4|f32      default int8; int4: less memory, faster for a single row, less accurate
  --provider <name>            what runs the base: cpu (ONNX Runtime's native library), webgpu (the same on a GPU) or web
                               (WebAssembly without native code; a third as fast, an eighth for prompts); default auto:
                               webgpu on a GPU that is faster than the processor, otherwise cpu if it loads
  --precision auto|f32|f16     what a GPU computes in; auto: float16 for int8 and int4 if the GPU supports it and its answers
                               match float32, which is checked at each start; processors compute in float32
  --kv auto|int8|f32           format of keys and values on a processor; int8: a quarter of the memory, and faster steps
                               over long rows, but adapters that need larger values are refused; default auto: int8 if
                               the base's answers match float32, which is measured once, and f32 beside --weights f32
  --host <address>             default ${DEFAULTS.host}
  --port <port>                default ${DEFAULTS.port}; 0 picks a free one
  --engine native|vllm         what runs the model; default native: this process
  --engine-url <url>           vllm: its address, such as http://127.0.0.1:8000; --base is the folder that it serves
  --max-loras <n>              vllm: its own value, default ${VLLM_DEFAULTS.maxLoras}
  --max-lora-rank <n>          vllm: its own value, default ${VLLM_DEFAULTS.maxLoraRank}
  --max-cpu-loras <n>          vllm: its own value, default --max-loras
  --slots <n>                  rows that run at once; default: as many as fit in memory, 4 to 64 (webgpu and web: 16);
                               with vllm: requests at once, default ${VLLM_DEFAULTS.slots}
  --context <tokens>           context length; default: the base's
  --threads <n>                default: all cores
  --max-queue <n>              requests that may wait; default ${DEFAULTS.maxQueue}
  --adapter-ram-bytes <n>      memory for adapters and their part of the batch; default ${DEFAULTS.ram}
  --prefix-cache-bytes <n>     memory for prompts that may be reused; default: an eighth of what the base leaves, at
                               least 256 MiB; 0 keeps none
  --adapter-disk-bytes <n>     disk space for adapter files; default ${DEFAULTS.disk}
  --cache <folder>             for graphs, adapter files and jobs; default: GRAFT_CACHE or ~/.cache/graft
  --train                      also trains adapters for fine-tuning jobs, one at a time, on the processor at the lowest
                               priority, with one core less than there are; without it, jobs left here are deleted
  --origin-id <id>             signed mode: this origin's id, as in the worker's ORIGINS
  --dev                        standalone: no signatures, plain OpenAI bodies, this machine only
  --adapter <name>=<folder>    --dev: serve a PEFT folder under a name (repeatable)
  --parent <name>=<name>       --dev: the first adapter was trained on top of the second (repeatable)
  --grace-ms <ms>              after SIGTERM, time until requests are refused; default 0 on loopback, otherwise ${REMOTE_GRACE_MS}
  --log-sample <share>         share of requests to log, 0 to 1; default 0; failures are always logged
  --help

Environment
  GRAFT_ORIGIN_KEYS            signed mode: kid:base64,… with at least 32 bytes each; any of them verifies
  GRAFT_METRICS_TOKEN          for GET /metrics as "authorization: Bearer …", at least 16 characters; without
                               it, only this machine may read metrics, and only if --host is loopback
  GRAFT_CACHE                  see --cache
  GRAFT_ENGINE_KEY             vllm: its --api-key
  OTEL_EXPORTER_OTLP_ENDPOINT  sends traces there, by OTLP over HTTP in JSON; docs/run/traces.md has more variables
`;

const FLAGS = {
  base: { type: 'string' },
  'base-id': { type: 'string' },
  weights: { type: 'string' },
  provider: { type: 'string' },
  precision: { type: 'string' },
  kv: { type: 'string' },
  engine: { type: 'string' },
  'engine-url': { type: 'string' },
  'max-loras': { type: 'string' },
  'max-lora-rank': { type: 'string' },
  'max-cpu-loras': { type: 'string' },
  host: { type: 'string' },
  port: { type: 'string' },
  slots: { type: 'string' },
  context: { type: 'string' },
  threads: { type: 'string' },
  'max-queue': { type: 'string' },
  'adapter-ram-bytes': { type: 'string' },
  'prefix-cache-bytes': { type: 'string' },
  'adapter-disk-bytes': { type: 'string' },
  cache: { type: 'string' },
  train: { type: 'boolean' },
  'origin-id': { type: 'string' },
  dev: { type: 'boolean' },
  adapter: { type: 'string', multiple: true },
  parent: { type: 'string', multiple: true },
  'grace-ms': { type: 'string' },
  'log-sample': { type: 'string' },
  help: { type: 'boolean' },
} as const;
