import { defineConfig } from 'vitest/config';
import { TEST_MS, WAIT_MS } from './test/setup/slow.ts';

/** Of tests with a browser or the real base too: how long they may take, and that what they start ends with them. */
export const EVERY_RUN = {
  globalSetup: ['test/setup/summary-when-interrupted.ts'],
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

/** Thousands of simulated experiments, random schemas: minutes of processor time, in `npm run check`. */
export const SIMULATIONS = [
  'test/gpu-origin/grammar/random-answers.test.ts',
  'test/worker/experiments/statistics/{looking,unequal-arms}.test.ts',
];

/** `npm test`: no network, no browser, no base model. */
export default defineConfig({
  test: {
    ...EVERY_RUN,
    include: ['test/**/*.test.ts'],
    exclude: ['test/check/**', 'test/browser/**', '**/node_modules/**', ...SIMULATIONS],
    setupFiles: [...EVERY_RUN.setupFiles, 'test/setup/plain-text.ts', 'test/setup/steady-miniflare.ts'],
    maxWorkers: 2,
    // Files share what they import: 460 times the same modules were half of the whole time. So no file leaves timers
    // faked, globals replaced or servers open.
    isolate: false,
    unstubGlobals: true,
    unstubEnvs: true,
  },
});
