/** The origin's flags: their names, defaults and help. */
const GiB = 1024 ** 3;
export const DEFAULTS = {
  ...{ host: '127.0.0.1', port: 8788, maxQueue: 256, ram: GiB, disk: 10 * GiB },
  prefix: GiB / 4,
};
export const REMOTE_GRACE_MS = 5_000;
/** vLLM's own of 0.32. */
export const VLLM_DEFAULTS = { maxLoras: 1, maxLoraRank: 16, slots: 64 };

export const HELP = `gpu-origin: serves a base model with another adapter in every row

  --base <path>                a .gguf file or a Hugging Face folder (needed)
  --base-id <id>               id under which it is served; else from its name
  --weights int8|int4|f32      default int8; int4: less memory, one row alone is faster, answers are coarser
  --provider <name>            what runs the base: cpu, ONNX Runtime's native library; webgpu, the same on a GPU; web,
                               its WebAssembly without any native code, a third as fast, an eighth at prompts; default
                               auto: webgpu on a GPU that is faster than the processor, else cpu where it loads
  --precision auto|f32|f16     what a GPU computes in; auto: float16 of int8 and int4 where the GPU has it and answers as
                               in float32, which is tried at each start; processors compute in float32
  --host <address>             default ${DEFAULTS.host}
  --port <port>                default ${DEFAULTS.port}; 0 takes a free one
  --engine native|vllm         who runs the model, default native: this process
  --engine-url <url>           vllm: its server, as http://127.0.0.1:8000; --base is the folder that it serves
  --max-loras <n>              vllm: as it was started with, default ${VLLM_DEFAULTS.maxLoras}
  --max-lora-rank <n>          vllm: as it was started with, default ${VLLM_DEFAULTS.maxLoraRank}
  --max-cpu-loras <n>          vllm: as it was started with, default --max-loras
  --slots <n>                  rows that run at once; default as many as there is memory for, 4 to 64, by webgpu and web
                               16; with vllm requests, default ${VLLM_DEFAULTS.slots}
  --context <tokens>           context length, default the base's
  --threads <n>                default all cores
  --max-queue <n>              requests that may wait, default ${DEFAULTS.maxQueue}
  --adapter-ram-bytes <n>      memory for adapters and their part of the batch, default ${DEFAULTS.ram}
  --prefix-cache-bytes <n>     memory for prompts that may come again, default ${DEFAULTS.prefix}; 0 keeps none
  --adapter-disk-bytes <n>     disk for adapter files, default ${DEFAULTS.disk}
  --cache <folder>             graphs and adapter files, default GRAFT_CACHE or ~/.cache/graft
  --origin-id <id>             signed mode: this origin's id, as the worker's ORIGINS has it
  --dev                        standalone: unsigned, plain OpenAI bodies, this machine only
  --adapter <name>=<folder>    --dev: serve a PEFT folder under a name (repeatable)
  --parent <name>=<name>       --dev: the first adapter was trained on top of the second (repeatable)
  --grace-ms <ms>              after SIGTERM, time before requests are refused; default 0 on loopback, else ${REMOTE_GRACE_MS}
  --log-sample <share>         requests to log, 0 to 1, default 0; what fails is logged always
  --help

Environment
  GRAFT_ORIGIN_KEYS            signed mode: kid:base64,… with at least 32 bytes each; every one verifies
  GRAFT_METRICS_TOKEN          for GET /metrics as "authorization: Bearer …", at least 16 characters; without it only
                               this machine may read them, and only where --host is loopback
  GRAFT_CACHE                  see --cache
  GRAFT_ENGINE_KEY             vllm: its --api-key
`;

export const FLAGS = {
  base: { type: 'string' },
  'base-id': { type: 'string' },
  weights: { type: 'string' },
  runner: { type: 'string' },
  provider: { type: 'string' },
  precision: { type: 'string' },
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
  'origin-id': { type: 'string' },
  dev: { type: 'boolean' },
  adapter: { type: 'string', multiple: true },
  parent: { type: 'string', multiple: true },
  'grace-ms': { type: 'string' },
  'log-sample': { type: 'string' },
  help: { type: 'boolean' },
} as const;
