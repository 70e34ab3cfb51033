import { defineConfig } from 'vitest/config';

/** `npm run check`: what needs the real base, one file at a time because each loads it. */
export default defineConfig({
  test: {
    include: ['test/check/**/*.test.ts'],
    testTimeout: 900_000,
    hookTimeout: 600_000,
    fileParallelism: false,
  },
});
