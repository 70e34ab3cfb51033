import { defineConfig } from 'vitest/config';
import { TEST_MS, WAIT_MS } from './test/setup/slow.ts';

/** Of tests with a browser or the real base too: how long they may take, and that what they start ends with them. */
const EVERY_TEST = {
  setupFiles: [
    'test/setup/end-with-run.ts',
    'test/setup/patient-waits.ts',
    'test/setup/fresh-connections.ts',
  ],
  testTimeout: TEST_MS,
  hookTimeout: TEST_MS,
  teardownTimeout: TEST_MS,
  expect: { poll: { timeout: WAIT_MS } },
};
export const EVERY_RUN = {
  ...EVERY_TEST,
  globalSetup: ['test/setup/summary-when-interrupted.ts', 'test/setup/build-once.ts'],
};

/** Thousands of simulated experiments, random schemas: minutes of processor time, in `npm run check`. */
export const SIMULATIONS = [
  'test/gpu-origin/grammar/random-answers.test.ts',
  'test/worker/experiments/statistics/{looking,unequal-arms}.test.ts',
];

/** Tests at a door of the product (HTTP, a library's client, an attack, the edge's app) and of runners with a tiny base. */
const DOOR = [
  'test/{conformance,security,worker}/**/*.test.ts',
  'test/gpu-origin/{backends,http,runtime,traffic,trials}/**/*.test.ts',
  'test/cli/web-base-bucket.test.ts',
];
/** Tests that walk the whole heap, which takes a second or more where other files have left much in it. */
const HEAP = ['test/security/{kept-requests,memory}.test.ts'];
/** Tests of whole programs, as processes, and of packages. */
const E2E = ['test/{e2e,library}/**/*.test.ts'];

/** @param globalSetup of this project, before its first file. */
const project = (
  name: string,
  { include, exclude = [], isolate = false }: { include: string[]; exclude?: string[]; isolate?: boolean },
  globalSetup: string[] = [],
) => ({
  test: {
    ...EVERY_TEST,
    name,
    globalSetup,
    include,
    exclude: ['test/check/**', 'test/browser/**', '**/node_modules/**', ...SIMULATIONS, ...exclude],
    setupFiles: [...EVERY_TEST.setupFiles, 'test/setup/plain-text.ts', 'test/setup/steady-miniflare.ts'],
    maxWorkers: 2,
    // Without it files share what they import: 460 times the same modules were half of the whole time. So no file leaves
    // timers faked, globals replaced or servers open.
    isolate,
    unstubGlobals: true,
    unstubEnvs: true,
  },
});

/** `npm test`: no network, no browser, no base model. */
export default defineConfig({
  test: {
    globalSetup: ['test/setup/summary-when-interrupted.ts'],
    teardownTimeout: TEST_MS,
    maxWorkers: 2,
    projects: [
      project('unit', { include: ['test/**/*.test.ts'], exclude: [...DOOR, ...E2E] }),
      project('door', { include: DOOR, exclude: HEAP }, ['test/setup/build-once.ts']),
      project('heap', { include: HEAP, isolate: true }),
      project('e2e', { include: E2E }, ['test/setup/build-once.ts']),
    ],
  },
});
