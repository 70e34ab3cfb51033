import type { DropPass } from '../../../worker/kv-inbox/take-drops.ts';
import type { KvInbox, DropError } from '../../../worker/kv-inbox/take-drops.ts';
import type { TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Owner of what is dropped where nothing above has one. */
export const DROP_TENANT = 'dropper';

export interface DropHarness extends AppHarness {
  /** What reads `drop:`. */
  box: KvInbox;
  /** As `wrangler kv key put` does: KV takes it at once, and shows it as late as KV does. */
  drop(name: string, file: TinyAdapter | string): Promise<void>;
  /** A minute passes, and the schedule comes. */
  pass(): Promise<DropPass>;
  /** What lies under `drop:`. */
  lying(): Promise<string[]>;
  errorOf(name: string): DropError | null;
  /** `<version> <digest of its file>` of each version, newest first. */
  versions(name: string): Promise<string[]>;
  chat(model: string, key: string): Promise<Response>;
  makeKey(tenant: string): Promise<string>;
}

/** The real app and intake on the fakes, with drops on. */
export const createDropHarness = async (): Promise<DropHarness> =>
  dropHarnessOf(await createAppHarness({ dropTenant: DROP_TENANT }));

/** @param harness with `dropTenant`. */
export function dropHarnessOf(harness: AppHarness): DropHarness {
  const { services, clock, kv, drops } = harness;
  if (drops === null) throw new Error('drops are off');
  return {
    ...harness,
    box: drops.box,
    async drop(name, file) {
      clock.advance(1_100);
      const bytes = typeof file === 'string' ? new TextEncoder().encode(file) : new Uint8Array(file.bytes);
      await kv.put(`drop:${name}`, bytes);
    },
    async pass() {
      clock.advance(60_000);
      return drops.takeAll(() => undefined);
    },
    lying: async () =>
      (await kv.list({ prefix: 'drop:', cursor: null })).keys.map(({ name }) => name.slice('drop:'.length)),
    errorOf(name) {
      let text: string | null = null;
      kv.tamper(`drop-error:${name}`, (value) => (text = value));
      return text === null ? null : (JSON.parse(text) as DropError);
    },
    versions: async (name) =>
      (await services.registry.versions(name)).map(({ version, digest }) => `${version} ${digest}`),
    chat: (model, key) =>
      harness.request('/v1/chat/completions', {
        key,
        body: { model, messages: [{ role: 'user', content: 'hi' }] },
      }),
    async makeKey(tenant) {
      const made = await harness.request('/admin/keys', { body: { tenant } });
      return ((await made.json()) as { key: string }).key;
    },
  };
}
