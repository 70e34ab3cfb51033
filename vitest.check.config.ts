import { defineConfig } from 'vitest/config';
import { TEST_MS } from './test/setup/slow.ts';
import { EVERY_RUN } from './vitest.config.ts';

/** `npm run check`: what needs the real base, one file at a time because each loads it. */
export default defineConfig({
  test: {
    ...EVERY_RUN,
    include: ['test/check/**/*.test.ts'],
    testTimeout: 3 * TEST_MS,
    hookTimeout: 3 * TEST_MS,
    fileParallelism: false,
  },
});
