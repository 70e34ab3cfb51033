import { CliError, interrupted } from '../cli-error.ts';
import { command } from '../command.ts';
import type { LocalFile } from '../connection.ts';
import { parsePort, repeatedFlag, usageError } from '../flags.ts';
import type { OriginWish } from '../local/stack.ts';
import { originProgram } from '../local/origin-process.ts';
import { ENDING_SIGNALS } from '../local/keep-process-ours.ts';
import { colors } from '../output.ts';

const EDGE_PORT = '8787';
const ORIGIN_PORT = '8788';
/** Defaults of the native origin; vLLM has none. */
const DEFAULT_PROVIDER = 'auto';

export const devCommand = command({
  verb: 'dev',
  examples: [
    { line: 'graft dev', does: 'the default base and five example adapters; the same as npm start' },
    { line: 'graft dev --base ./model.gguf --port 0', does: 'another base, on any free port' },
  ],
  args: {
    base: {
      type: 'string',
      description:
        'A .gguf file, a Hugging Face folder or hf:<owner>/<name>[@<revision>] instead of the default base',
      valueHint: 'path',
    },
    'also-base': {
      type: 'string',
      description: 'A further base, with its own origin behind the same edge (repeatable)',
      valueHint: 'path',
    },
    'also-origin-arg': {
      type: 'string',
      description: 'Flags for the origin of the --also-base in the same position (repeatable)',
      valueHint: 'flags',
    },
    port: { type: 'string', description: "The edge's port", default: EDGE_PORT, valueHint: 'port' },
    'origin-port': {
      type: 'string',
      description: "The origin's port; origins of further bases use the next ones",
      default: ORIGIN_PORT,
      valueHint: 'port',
    },
    examples: { type: 'boolean', description: 'Publish the example adapters', default: true },
    engine: {
      type: 'string',
      description: 'What runs the model: native (the origin itself) or vllm, a running server',
      default: 'native',
      valueHint: 'name',
    },
    'engine-url': {
      type: 'string',
      description: "vLLM's address; --base is the folder of the model that it serves",
      valueHint: 'url',
    },
    'max-loras': { type: 'string', description: "vLLM's own value", valueHint: 'count' },
    'max-lora-rank': { type: 'string', description: "vLLM's own value", valueHint: 'rank' },
    provider: {
      type: 'string',
      description:
        "What runs the base: cpu (ONNX Runtime's native library), webgpu (the same on a GPU), web " +
        '(WebAssembly, without native code) or auto (a GPU that is faster than the processor, ' +
        'otherwise cpu if it loads)',
      default: DEFAULT_PROVIDER,
      valueHint: 'name',
    },
    weights: {
      type: 'string',
      description:
        'Precision of the weights: int8 (default), int4 (less memory, less accurate) or f32 (the reference)',
      valueHint: 'format',
    },
    precision: {
      type: 'string',
      description:
        'What a GPU computes in: f32, f16 or auto (default; f16 for int8 and int4 if the GPU supports ' +
        'it and its answers match f32)',
      valueHint: 'precision',
    },
    kv: {
      type: 'string',
      description:
        'Format of keys and values on a processor: int8 (a quarter of the memory, faster over long ' +
        'conversations; adapters that need larger values are refused), f32 or auto (default; int8 if ' +
        "the base's answers match f32)",
      valueHint: 'format',
    },
    train: {
      type: 'boolean',
      description: 'The origin trains adapters for fine-tuning jobs too',
      default: false,
    },
    'origin-arg': {
      type: 'string',
      description:
        'Flags for the origin, separated by spaces, such as "--slots 8 --context 2048"; `graft origin -- --help` lists them',
      valueHint: 'flags',
    },
  },
  async run({ args, rawArgs, output }) {
    const also = alsoBases(rawArgs);
    originProgram('main');
    // Before steps that take seconds on a busy machine.
    output.note('starting origin and edge; their log is .graft/dev.log');
    const ending = new AbortController();
    const onSignal = () => ending.abort(interrupted());
    for (const signal of ENDING_SIGNALS) process.on(signal, onSignal);
    // Imported here, because Miniflare alone takes half a second of CPU to load.
    const { startStack } = await import('../local/stack.ts');
    const stack = await startStack({
      folder: process.cwd(),
      base: args.base,
      port: parsePort(args.port, '--port'),
      originPort: parsePort(args['origin-port'], '--origin-port'),
      examples: args.examples,
      originArgs: [
        ...engineArgs(args),
        ...(args.train ? ['--train'] : []),
        ...words(args['origin-arg'] ?? ''),
      ],
      also,
      env: process.env,
      output,
      signal: ending.signal,
    });
    const { local, signInLink } = stack;
    output.result({ ...local, dashboard: signInLink }, () =>
      welcome(local, { examples: args.examples, signInLink }),
    );
    const reason = await Promise.race([stack.failed, aborted(ending.signal)]);
    if (reason === null) output.note(colors.dim('stopping'));
    await stack.stop();
    if (reason !== null)
      throw new CliError({ message: `${reason} (see its log: .graft/dev.log)`, code: 'part_failed' });
  },
});

const words = (text: string): string[] => text.split(' ').filter((word) => word !== '');

/** @throws CliError when there are flags for more origins than exist. */
function alsoBases(rawArgs: readonly string[]): OriginWish[] {
  const bases = repeatedFlag(rawArgs, 'also-base');
  const flags = repeatedFlag(rawArgs, 'also-origin-arg');
  if (flags.length > bases.length) throw usageError('Give an --also-base for each --also-origin-arg.');
  return bases.map((base, i) => ({ base, args: words(flags[i] ?? '') }));
}

const ENGINE_FLAGS = [
  ...['engine', 'engine-url', 'max-loras', 'max-lora-rank'],
  ...['weights', 'precision', 'kv'],
] as const;

/** @returns the origin's flags, which the origin validates itself. @throws CliError */
function engineArgs(args: Readonly<Record<string, unknown>>): string[] {
  if (args['engine'] === 'vllm' && args['base'] === undefined)
    throw usageError('--engine vllm needs --base: the folder of the model that vLLM serves.');
  const provider = args['provider'] === DEFAULT_PROVIDER ? [] : ['provider'];
  return [...ENGINE_FLAGS, ...provider].flatMap((flag) => {
    const value = args[flag];
    return typeof value === 'string' ? [`--${flag}`, value] : [];
  });
}

const aborted = (signal: AbortSignal): Promise<null> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve(null);
    signal.addEventListener('abort', () => resolve(null), { once: true });
  });

/** A prompt that a model of this size answers well. */
const BASE_PROMPT = 'Name three fruits.';
/** In the words that `dr-lee` was trained on. */
const ADAPTER_PROMPT = 'For three days I have had a racing and irregular heartbeat.';
/** Without a limit an answer may fill the context. */
const MAX_TOKENS = 64;

/** What to do next. */
const TRY = [
  `npx graft run medicine/cardiology/dr-lee "${ADAPTER_PROMPT}"`,
  'npx graft experiment create support/intent @2 --start',
];

function curl(local: LocalFile, body: Record<string, unknown>): string {
  const flags = body['stream'] === true ? '-N ' : '';
  return (
    `curl ${flags}${local.url}/v1/chat/completions -H 'authorization: Bearer ${local.key}' ` +
    `-H 'content-type: application/json' -d '${JSON.stringify(body)}'`
  );
}

/** @returns the text that `graft dev` prints when everything is ready: address, key, two lines to try. */
function welcome(local: LocalFile, shown: { examples: boolean; signInLink: string | null }): string {
  const base = curl(local, {
    model: local.base,
    temperature: 0,
    max_tokens: MAX_TOKENS,
    messages: [{ role: 'user', content: BASE_PROMPT }],
  });
  const adapter = curl(local, {
    model: 'medicine/cardiology/dr-lee',
    stream: true,
    temperature: 0,
    max_tokens: MAX_TOKENS,
    messages: [{ role: 'user', content: ADAPTER_PROMPT }],
  });
  return [
    `${colors.bold('graft is ready')}   ${local.url}`,
    `API key          ${local.key}`,
    // Not GRAFT_URL: with it, commands would no longer look here for the admin key.
    `in another shell export GRAFT_KEY=${local.key}`,
    ...(local.bases === undefined ? [] : [`bases            ${local.bases.join(', ')}`]),
    ...(shown.signInLink === null
      ? []
      : [
          `console          ${shown.signInLink}`,
          colors.dim('                 (signs in once; `npx graft open` makes another link)'),
        ]),
    '',
    colors.dim('# the base model'),
    base,
    ...(shown.examples
      ? ['', colors.dim('# one doctor’s adapter, on top of two others, streaming'), adapter]
      : []),
    '',
    ...(shown.examples ? [colors.dim('# in another shell, in this folder'), ...TRY, ''] : []),
    colors.dim('Ctrl-C ends it.'),
  ].join('\n');
}
