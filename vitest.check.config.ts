import { defineConfig } from 'vitest/config';
import { TEST_MS } from './test/setup/slow.ts';
import { EVERY_RUN, SIMULATIONS } from './vitest.config.ts';

const { globalSetup, ...every } = EVERY_RUN;

/** Whole programs with a tiny base, which mostly wait: for a blow, for a process, for npm. */
const PROGRAMS = ['test/check/{chaos,killed-jobs,killed-training,packages}.test.ts'];

/** `npm run check`: what needs the real base one file at a time, the rest after it, two at a time. */
export default defineConfig({
  test: {
    globalSetup,
    projects: [
      {
        // What needs the real base; each file loads it.
        test: {
          ...every,
          name: 'base',
          include: ['test/check/**/*.test.ts'],
          exclude: PROGRAMS,
          maxWorkers: 1,
          maxConcurrency: 2,
          sequence: { groupOrder: 0 },
          testTimeout: 3 * TEST_MS,
          hookTimeout: 3 * TEST_MS,
        },
      },
      {
        test: {
          ...every,
          name: 'programs',
          include: PROGRAMS,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          testTimeout: 3 * TEST_MS,
          hookTimeout: 3 * TEST_MS,
        },
      },
      {
        test: {
          ...every,
          name: 'simulations',
          include: SIMULATIONS,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // What `npm test` has over SQLite: every store of the database, and races over it, on Miniflare's D1.
        test: {
          ...every,
          name: 'd1',
          include: [
            'test/worker/**/*-ledger*.test.ts',
            'test/worker/**/ledger.test.ts',
            'test/worker/erasure/{overtaken,under-way}.test.ts',
            'test/worker/experiments/webhook-outbox.test.ts',
            'test/worker/origins/origin-history.test.ts',
            'test/worker/platform/{second-opinion,sqlite}.test.ts',
            'test/worker/prompts/kept-prompts.test.ts',
            'test/worker/registry/{at-once,d1-registry,life-cycle,registry,removals,rooms}.test.ts',
          ],
          env: { GRAFT_TEST_DATABASE: 'd1' },
          isolate: false,
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
          setupFiles: [...every.setupFiles, 'test/setup/d1.ts'],
        },
      },
    ],
  },
});
