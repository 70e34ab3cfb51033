import { createApp } from '../../../worker/app.ts';
import { takeAllDrops, type DropPass } from '../../../worker/drops/take-all-drops.ts';
import { createTakeDropOnMiss } from '../../../worker/drops/take-drop-on-miss.ts';
import type { DropDeps } from '../../../worker/drops/take-drop.ts';
import { mayUseChain } from '../../../worker/access/authorize.ts';
import { createKvDropBox } from '../../../worker/drops/kv-drop-box.ts';
import type { DropError } from '../../../worker/drops/ports.ts';
import { createFakeDropLedger } from '../../fakes/fake-drops.ts';
import type { TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Owner of what is dropped where nothing above has one. */
export const DROP_TENANT = 'dropper';

export interface DropHarness extends AppHarness {
  deps: DropDeps;
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
export async function createDropHarness(): Promise<DropHarness> {
  const harness = await createAppHarness();
  const { services, clock, kv } = harness;
  const pacing = { pauseMs: 1_100, tries: 4, sleep: clock.sleep };
  const deps: DropDeps = {
    ...services.intake,
    base: () => services.origins.base(),
    trials: services.origins,
    grantLedger: services.grantLedger,
    mayUseChain,
    dropTenant: DROP_TENANT,
    dropLedger: createFakeDropLedger(),
    drops: createKvDropBox({ kv, cacheTtl: 30, timeoutMs: 1_000, pacing }),
  };
  const app = createApp({
    ...services,
    takeDropOnMiss: createTakeDropOnMiss({ ...deps, sleep: clock.sleep }),
  });
  const life = { signal: new AbortController().signal, keepAlive: () => undefined };
  return {
    ...harness,
    deps,
    async drop(name, file) {
      clock.advance(1_100);
      const bytes = typeof file === 'string' ? new TextEncoder().encode(file) : new Uint8Array(file.bytes);
      await kv.put(`drop:${name}`, bytes);
    },
    async pass() {
      clock.advance(60_000);
      return takeAllDrops(deps, life);
    },
    lying: async () =>
      (await kv.list({ prefix: 'drop:', cursor: null })).keys.map(({ name }) => name.slice('drop:'.length)),
    errorOf(name) {
      let text: string | null = null;
      kv.tamper(`drop-error:${name}`, (value) => (text = value));
      return text === null ? null : (JSON.parse(text) as DropError);
    },
    versions: async (name) =>
      (await services.intake.registry.versions(name)).map(({ version, digest }) => `${version} ${digest}`),
    chat: async (model, key) =>
      app.request('/v1/chat/completions', {
        method: 'POST',
        headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model, messages: [{ role: 'user', content: 'hi' }] }),
      }),
    async makeKey(tenant) {
      const made = await harness.request('/admin/keys', { body: { tenant } });
      return ((await made.json()) as { key: string }).key;
    },
  };
}
