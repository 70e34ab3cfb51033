/** The real app on D1's real statements, anew for each test; what it logs is not shown. */
import type { Miniflare } from 'miniflare';
import { afterAll, afterEach, beforeAll, beforeEach, vi } from 'vitest';
import { createD1Stores } from '../../worker/d1-stores.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { createAppHarness, type AppHarness } from './app-harness.ts';
import { openRealDatabase, startDatabases } from './platform/real-database.ts';

type Options = NonNullable<Parameters<typeof createAppHarness>[0]>;

/** @param options of the harness, besides its stores; asked for before each test. */
export function useD1App(options: (stores: ReturnType<typeof createD1Stores>) => Options = () => ({})) {
  let databases: Miniflare;
  let db: SqlDatabase;
  let graft: AppHarness;
  beforeAll(() => {
    databases = startDatabases();
  });
  afterAll(() => databases.dispose());
  beforeEach(async () => {
    for (const method of ['log', 'error'] as const) vi.spyOn(console, method).mockReturnValue(undefined);
    db = await openRealDatabase(databases);
    const stores = createD1Stores(db);
    graft = await createAppHarness({
      stores: { ...stores, trafficCollector: stores.traffic },
      ...options(stores),
    });
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
