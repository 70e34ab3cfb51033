/** Who may import whom; docs/architecture.md explains the rooms. */
const only = (from, allowed, extra = {}) => ({
  name: `${from.replaceAll('/', '-')}-imports`,
  severity: 'error',
  from: { path: `^${from}/`, ...extra.from },
  to: {
    path: '^(protocol|adapters|gpu-origin|worker|cli|dashboard|browser|test|bench)/',
    pathNot: [`^${from}/`, ...allowed.map((room) => `^${room}`)],
  },
});

/** Backends of ports, in files named by what they stand on; Durable Objects. */
const BACKEND = '^worker/[a-z/-]+/((d1|kv|r2)-[^/]+|[^/]+-object)\\.ts$';
/** How rows are read, and what platform gives to all backends. */
const DATABASE_ROWS = ['^worker/platform/', '-rows\\.ts$'];
/** Decisions, formulas and state machines: no port with I/O, no clock. */
const PURE = [
  'access/rate-limits',
  'experiments/(analyze|pick-variant|decide|health|legal-change|segments)',
  'experiments/statistics/[^/]+',
  'metering/quota-state',
  'origins/pool-knowledge',
  'origins/routing',
  'platform/bounded-map',
  'registry/claims',
  'traffic/sum-traffic',
].map((files) => `^worker/${files}\\.ts$`);

/** What any file may use. */
const SHARED = ['^worker/[a-z/-]+/(ports|limits)\\.ts$', '^worker/(errors|limits)\\.ts$'];
/** The engine's public face: the class, what its callers see, and its ports. */
const ENGINE = 'gpu-origin/engine/(engine|requests|ports)\\.ts$';

module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    only('protocol', []),
    { ...only('adapters/format', ['protocol/', 'adapters/errors']), name: 'adapters-format' },
    { ...only('adapters', ['protocol/']), name: 'adapters' },
    only('cli', ['adapters/index', 'protocol/']),
    only('gpu-origin/generation', ['protocol/']),
    only('gpu-origin/engine', ['gpu-origin/generation/', 'protocol/']),
    only('gpu-origin/model', ['adapters/', 'protocol/']),
    only('gpu-origin/runtime', ['gpu-origin/engine/ports', 'gpu-origin/model/', 'adapters/', 'protocol/']),
    {
      name: 'gpu-origin-runtime-devices',
      comment: 'Runner and engine know device.ts; which one it is, open-device.ts alone decides.',
      severity: 'error',
      from: { path: '^gpu-origin/', pathNot: '^gpu-origin/runtime/(open-device\\.ts$|native/|web/)' },
      to: { path: '^gpu-origin/runtime/(native|web)/' },
    },
    {
      name: 'gpu-origin-runtime-device',
      comment: 'A device knows its port and what a graph is, not who runs on it.',
      severity: 'error',
      from: { path: '^gpu-origin/runtime/(native|web)/' },
      to: {
        path: '^gpu-origin/',
        pathNot: [
          '^gpu-origin/runtime/$1/',
          '^gpu-origin/runtime/device\\.ts$',
          '^gpu-origin/runtime/gpu-parts\\.ts$',
          '^gpu-origin/model/(base-model|onnx-proto|read-file)\\.ts$',
        ],
      },
    },
    {
      name: 'native-library',
      comment: 'What runs without native code must not load it.',
      severity: 'error',
      from: { pathNot: '^(gpu-origin/runtime/native/|test/fixtures/(software-vulkan|resident-pages)\\.ts$)' },
      to: { path: 'node_modules/(koffi|onnxruntime-node)/' },
    },
    only('gpu-origin/backends', [
      ENGINE,
      'gpu-origin/engine/(sequence|adapters/adapter-memory)\\.ts$',
      'gpu-origin/generation/',
      'gpu-origin/grammar/(ports|constraint-grammar)',
      'gpu-origin/model/(base-model|hub-config|read-file)',
      'adapters/',
      'protocol/',
    ]),
    only('gpu-origin/grammar', ['gpu-origin/engine/ports', 'protocol/']),
    only('gpu-origin/adapter-files', ['adapters/', 'protocol/']),
    only('gpu-origin/tracing', ['protocol/']),
    only('gpu-origin/jobs', ['gpu-origin/adapter-files/adapter-store', 'protocol/']),
    only('gpu-origin/prompts', [
      ENGINE,
      'gpu-origin/generation/',
      'gpu-origin/model/(tokenizer|chat-template)',
      'protocol/',
    ]),
    only('gpu-origin/trials', [
      ENGINE,
      'gpu-origin/(generation|prompts)/',
      'gpu-origin/model/tokenizer',
      'protocol/',
    ]),
    only('gpu-origin/training', [
      'gpu-origin/model/',
      'gpu-origin/runtime/(device|adapter-batch)',
      'gpu-origin/trials/',
      'adapters/',
      'protocol/',
    ]),
    only('gpu-origin/http', [
      ENGINE,
      'gpu-origin/adapter-files/(adapter-store|disk-room)',
      'gpu-origin/grammar/(ports|constraint-grammar)',
      'gpu-origin/(generation|prompts|trials)/',
      'gpu-origin/jobs/jobs\\.ts$',
      'gpu-origin/tracing/tracer\\.ts$',
      'gpu-origin/model/(tokenizer|chat-template)',
      'protocol/',
    ]),
    {
      name: 'gpu-origin-http-files',
      comment: 'Handlers see the store of files and the jobs by their types; the composition opens them.',
      severity: 'error',
      from: { path: '^gpu-origin/http/' },
      to: { path: '^gpu-origin/(adapter-files|jobs)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'gpu-origin-composition',
      comment: 'Only main.ts and what it loads know the rooms; logs and configuration do not.',
      severity: 'error',
      from: {
        path: '^gpu-origin/[^/]+\\.ts$',
        pathNot: '^gpu-origin/(main|load-[a-z-]+|export-web-base|train)\\.ts$',
      },
      to: { path: '^gpu-origin/[^/]+/', pathNot: `^${ENGINE}` },
    },
    { ...only('gpu-origin', ['adapters/', 'protocol/']), name: 'gpu-origin' },
    {
      name: 'worker-backends',
      comment:
        'What things are kept in is picked by the composition, and inside a Durable Object; its types may be used.',
      severity: 'error',
      from: {
        path: '^worker/([^/]+)/',
        pathNot: ['^worker/registry/d1-row-audit\\.ts$', '-object\\.ts$'],
      },
      to: {
        path: BACKEND,
        dependencyTypesNot: ['type-only'],
        pathNot: ['^worker/$1/', ...DATABASE_ROWS],
      },
    },
    {
      name: 'worker-root-backends',
      severity: 'error',
      from: { path: '^worker/[^/]+\\.ts$', pathNot: ['^worker/(index|d1-stores|kv-caches)\\.ts$'] },
      to: { path: BACKEND, dependencyTypesNot: ['type-only'], pathNot: ['^worker/platform/'] },
    },
    {
      name: 'worker-routes',
      comment: 'Routes are mounted by the app.',
      severity: 'error',
      from: { path: '^worker/', pathNot: ['^worker/app\\.ts$'] },
      to: { path: '^worker/.*routes\\.ts$', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'worker-pure',
      comment: 'Pure files take time, chance and state as values.',
      severity: 'error',
      from: { path: PURE },
      to: {
        path: '^worker/',
        pathNot: [...PURE, ...SHARED],
      },
    },
    {
      name: 'worker-platform',
      comment: 'What Cloudflare gives knows nothing of what is kept in it.',
      severity: 'error',
      from: { path: '^worker/platform/' },
      to: { path: '^worker/', pathNot: ['^worker/platform/', '^worker/(limits|log)\\.ts$'] },
    },
    { ...only('worker', ['adapters/read-head', 'protocol/']), name: 'worker' },
    {
      ...only('dashboard', ['adapters/', 'protocol/', 'browser/(index|messages)\\.ts$']),
      comment:
        'graft/browser lies beside the page, which loads it as applications do: here are its types alone.',
    },
    {
      name: 'dashboard-browser',
      severity: 'error',
      from: { path: '^dashboard/' },
      to: { path: '^browser/', dependencyTypesNot: ['type-only'] },
    },
    {
      ...only('browser', [
        'protocol/',
        // What an origin is made of, less its files, threads and HTTP. The bundle's test sees that no more comes along.
        'gpu-origin/(engine|generation|model|prompts)/',
        'gpu-origin/grammar/(ebnf|grammar-core|grammar-service|ports)\\.ts$',
        'gpu-origin/http/(completion-formats|run-prompts)\\.ts$',
        'gpu-origin/runtime/(adapter-batch|bindings|device|kv-cache|ort-runner|self-test)\\.ts$',
        'gpu-origin/runtime/web/(wasm-api|wasm-module|web-device)\\.ts$',
        // Of the chunk for training alone.
        'adapters/index',
        'gpu-origin/training/(activation|adamw|batches|frozen-base|rows|trainer|training-run)\\.ts$',
      ]),
      comment: 'No second sampler, template, tokenizer or chain.',
    },
    {
      name: 'browser-page',
      comment: 'The page talks to its worker; the engine is there.',
      severity: 'error',
      from: { path: '^browser/[^/]+\\.ts$' },
      to: { path: '^(gpu-origin|adapters|browser/worker)/' },
    },
    {
      name: 'protocol-leaf',
      severity: 'error',
      from: { path: '^protocol/' },
      to: { dependencyTypes: ['npm', 'core'], pathNot: 'node_modules/zod' },
    },
    {
      name: 'no-node-at-the-edge',
      severity: 'error',
      from: { path: '^(protocol|adapters|worker|dashboard|browser)/' },
      to: { dependencyTypes: ['core'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      extensions: ['.ts', '.js', '.mjs', '.json'],
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default'],
    },
  },
};
