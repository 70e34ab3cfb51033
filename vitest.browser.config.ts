import { defineConfig } from 'vitest/config';

/** `npm run test:browser`: what must run in a real browser, with the Chromium of the system. */
export default defineConfig({
  test: {
    include: ['test/browser/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    fileParallelism: false,
  },
});
