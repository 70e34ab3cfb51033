import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Longer than KV can be stale. */
const LATER_MS = 61_000;
const files = [1, 2, 3, 4].map((seed) => tinyAdapter({ seed }));
/** @param n 1 to 4. */
export const file = (n: number): TinyAdapter => files[n - 1] as TinyAdapter;

export interface Answer {
  status: number;
  body: Record<string, unknown> & { error?: { code: string; message: string; reason?: string } };
}

export interface Change {
  id: number;
  name: string;
  actor: string;
  action: string;
  from: number | null;
  to: number | null;
  target: string | null;
  why: string | null;
}

export interface LifeCycleRig {
  graft: AppHarness;
  post(path: string, body: object, key?: string): Promise<Answer>;
  newKey(body: object): Promise<string>;
  /** `name@version` that serves the model a minute later, or the status. */
  served(model: string): Promise<string | number | null>;
  history(query?: string): Promise<{ changes: Change[]; before: number | null }>;
}

/** The app on fakes with one owner and the first version of `notes`. */
export async function createLifeCycleRig(): Promise<LifeCycleRig> {
  const graft = await createAppHarness();
  const post: LifeCycleRig['post'] = async (path, body, key) => {
    const response = await graft.request(path, { body, ...(key === undefined ? {} : { key }) });
    return { status: response.status, body: (await response.json()) as Answer['body'] };
  };
  const newKey: LifeCycleRig['newKey'] = async (body) =>
    ((await post('/admin/keys', body)).body as { key: string }).key;
  const key = await newKey({ tenant: 'default', scopes: [] });
  const published = await graft.publish('notes', file(1));
  if (published.status !== 201) throw new Error(await published.text());
  return {
    graft,
    post,
    newKey,
    async served(model) {
      graft.clock.advance(LATER_MS);
      const response = await graft.request('/v1/chat/completions', {
        key,
        body: { model, strict: true, messages: [{ role: 'user', content: 'hi' }] },
      });
      return response.status === 200 ? response.headers.get('x-graft-adapter') : response.status;
    },
    async history(query = 'name=notes') {
      const response = await graft.request(`/admin/history?${query}`);
      return (await response.json()) as { changes: Change[]; before: number | null };
    },
  };
}
