import { defineConfig } from 'vitest/config';

/** `npm test`: no network, no browser, no base model. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/check/**', 'test/browser/**', '**/node_modules/**'],
    setupFiles: ['test/setup/plain-text.ts', 'test/setup/steady-miniflare.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    maxWorkers: 2,
    // Files share what they import: 460 times the same modules were half of the whole time. So no file leaves timers
    // faked, globals replaced or servers open.
    isolate: false,
    unstubGlobals: true,
    unstubEnvs: true,
  },
});
