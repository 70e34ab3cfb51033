/** An edge with origins that train, and what tests of jobs do with it. */
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { JobEventPage, JobPage, JobView } from '../../../protocol/fine-tuning.ts';
import { FakeJobOrigin } from '../../fakes/fake-job-origin.ts';
import { createAppHarness, type AppHarness, type AppHarnessOptions } from '../app-harness.ts';
import { rowsForm } from './row-forms.ts';

export const ROWS = '{"prompt":"a","completion":"b"}\n';
/** Longer than any lease. */
export const LATER_MS = 181_000;

export interface Refusal {
  error: { code: string; message: string; param: string | null };
}

export async function createJobRig({
  ids = ['o1'],
  ...options
}: { ids?: readonly string[] } & AppHarnessOptions = {}) {
  const graft: AppHarness = await createAppHarness({
    origins: ids.map((id) => ({ id, url: `http://${id}.test` })),
    ...options,
  });
  const origins = new Map(ids.map((id) => [id, new FakeJobOrigin(graft.clock.now)]));
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url = '') => {
    const id = new URL(url).hostname.slice(0, -'.test'.length);
    return origins.get(id)?.answer(method, path, init, url) ?? answer(method, path, init, url);
  };
  const makeKey = async (body: object): Promise<NewKey> =>
    (await (await graft.request('/admin/keys', { body })).json()) as NewKey;

  async function ask<T = JobView>(path: string, key: NewKey, body?: object, method?: string) {
    const response = await graft.request(path, {
      key: key.key!,
      ...(body === undefined ? {} : { body }),
      ...(method === undefined ? {} : { method }),
    });
    return { status: response.status, body: (await response.json()) as T & Refusal };
  }
  const sendRows = async (key: NewKey, text = ROWS): Promise<string> => {
    const sent = await graft.request('/v1/files', { ...rowsForm(text), key: key.key! });
    const { id } = (await sent.json()) as { id: string };
    return id;
  };
  const jobs = '/v1/fine_tuning/jobs';
  return {
    graft,
    origins,
    get origin() {
      return origins.get(ids[0]!)!;
    },
    makeKey,
    ask,
    sendRows,
    /** With a file of its own. */
    async create(key: NewKey, more: object = {}) {
      const training_file = await sendRows(key);
      return ask(jobs, key, { model: 'base', training_file, suffix: `${key.tenant}/first`, ...more });
    },
    get: async (id: string, key: NewKey) => (await ask(`${jobs}/${id}`, key)).body,
    list: async (key: NewKey, query = '') => (await ask<JobPage>(`${jobs}${query}`, key)).body,
    events: async (id: string, key: NewKey) =>
      (await ask<JobEventPage>(`${jobs}/${id}/events?limit=100`, key)).body.data,
    step: (id: string, what: 'cancel' | 'pause' | 'resume', key: NewKey) =>
      ask(`${jobs}/${id}/${what}`, key, {}),
    /** One run of the schedule, when the last one is surely over. */
    async run(): Promise<void> {
      graft.clock.advance(LATER_MS);
      await graft.schedule(() => undefined);
      await graft.settled();
    },
    count: async (table: string): Promise<number> =>
      (await graft.db.prepare(`SELECT COUNT(*) AS n FROM ${table}`).first<{ n: number }>())!.n,
    /** Tokens of a tenant's usage. */
    tokens: async (tenant: string): Promise<number> =>
      (await graft.db
        .prepare('SELECT COALESCE(SUM(prompt_tokens), 0) AS n FROM usage WHERE tenant = ?')
        .bind(tenant)
        .first<{ n: number }>())!.n,
  };
}

export type JobRig = Awaited<ReturnType<typeof createJobRig>>;
