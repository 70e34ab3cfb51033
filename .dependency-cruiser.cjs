/** Who may import whom; docs/architecture.md explains the rooms. */
const only = (from, allowed, extra = {}) => ({
  name: `${from.replaceAll('/', '-')}-imports`,
  severity: 'error',
  from: { path: `^${from}/`, ...extra.from },
  to: {
    path: '^(protocol|adapters|gpu-origin|worker|cli|dashboard|test|bench)/',
    pathNot: [`^${from}/`, ...allowed.map((room) => `^${room}`)],
  },
});

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
    only('gpu-origin/http', [
      'gpu-origin/engine/',
      'gpu-origin/generation/',
      'gpu-origin/model/(tokenizer|chat-template)',
      'protocol/',
    ]),
    { ...only('gpu-origin', ['adapters/', 'protocol/']), name: 'gpu-origin' },
    only('worker/policy', ['worker/stores/types', 'protocol/']),
    only('worker/experiments', [
      'worker/policy/experiment/',
      'worker/intake/',
      'worker/stores/types',
      'worker/limits',
      'protocol/',
    ]),
    only('worker/stores', ['protocol/']),
    only('worker/intake', [
      'adapters/index',
      'worker/policy/claims',
      'worker/stores/types',
      'worker/limits',
      'protocol/',
    ]),
    only('worker/observe', ['protocol/']),
    only('worker/quota', ['worker/observe/', 'worker/stores/types', 'worker/limits', 'protocol/']),
    only('worker/usage', ['worker/(quota|observe|experiments)/', 'worker/stores/types', 'protocol/']),
    only('worker/pins', ['worker/stores/types', 'protocol/']),
    only('worker/middleware', [
      'worker/(policy|observe)/',
      'worker/stores/types',
      'worker/(env|limits)',
      'protocol/',
    ]),
    only('worker/routes', [
      'worker/(policy|intake|middleware|observe|experiments)/',
      'worker/quota/counters-of',
      'worker/stores/types',
      'worker/(env|limits|origin-client)',
      'protocol/',
    ]),
    only('worker/openapi', ['worker/(routes|intake)/', 'worker/policy/experiment/', 'protocol/']),
    { ...only('worker', ['adapters/index', 'protocol/']), name: 'worker' },
    only('dashboard', ['protocol/']),
    {
      name: 'protocol-leaf',
      severity: 'error',
      from: { path: '^protocol/' },
      to: { dependencyTypes: ['npm', 'core'], pathNot: 'node_modules/zod' },
    },
    {
      name: 'no-node-at-the-edge',
      severity: 'error',
      from: { path: '^(protocol|adapters|worker|dashboard)/' },
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
