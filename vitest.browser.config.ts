import { defineConfig } from 'vitest/config';
import { EVERY_RUN } from './vitest.config.ts';

/** `npm run test:browser`: what must run in a real browser, with the Chromium of the system, two files at a time. */
export default defineConfig({
  test: {
    ...EVERY_RUN,
    include: ['test/browser/**/*.test.ts'],
    // Each has a stack and a browser of its own, and mostly waits for them.
    maxWorkers: 2,
  },
});
