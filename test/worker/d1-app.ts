/** The real app, anew for each test, and its database; what it logs is not shown. */
import { afterEach, beforeEach, vi } from 'vitest';
import { createD1Stores } from '../../worker/d1-stores.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { createAppHarness, type AppHarness, type AppHarnessOptions } from './app-harness.ts';
import { openDatabase } from './platform/database.ts';

/** @param options of the harness, besides its database; asked for before each test. */
export function useD1App(
  options: (stores: ReturnType<typeof createD1Stores>) => AppHarnessOptions = () => ({}),
) {
  let db: SqlDatabase;
  let graft: AppHarness;
  beforeEach(async () => {
    for (const method of ['log', 'error'] as const) vi.spyOn(console, method).mockReturnValue(undefined);
    db = await openDatabase();
    graft = await createAppHarness({ db, ...options(createD1Stores(db)) });
  });
  afterEach(() => vi.restoreAllMocks());
  return {
    get graft() {
      return graft;
    },
    get db() {
      return db;
    },
    async ask(path: string, body: object, key?: string) {
      const response = await graft.request(path, { body, ...(key === undefined ? {} : { key }) });
      return { status: response.status, body: (await response.json()) as Record<string, unknown> };
    },
  };
}
