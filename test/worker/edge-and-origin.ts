import { newStartId } from '../../protocol/signature.ts';
import { KEY, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';
import { TINY_BASE } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness, type AppHarnessOptions } from './app-harness.ts';

export interface EdgeAndOrigin {
  edge: AppHarness;
  /** By id. */
  origins: ReadonlyMap<string, Origin>;
  /** What the edge asked of origins so far: `o1 PUT /adapters/<digest>/parts/0 204`. */
  sent: string[];
  /** An API key of the tenant that the bootstrap key publishes for. */
  key: string;
  /** A completion by this name. @param withKey {@link key} unless given. @returns its status. */
  ask(model: string, withKey?: string): Promise<number>;
  stop(): Promise<void>;
}

/** The edge's app and whole origins behind it, signed; their model is the fake one. */
export async function createEdgeAndOrigin(
  options: { ids?: readonly string[]; edge?: AppHarnessOptions } & Parameters<typeof startTestOrigin>[0] = {},
): Promise<EdgeAndOrigin> {
  const { ids = ['o1'], edge: edgeOptions, ...originOptions } = options;
  const edge = await createAppHarness({
    ...edgeOptions,
    origins: ids.map((id) => ({ id, url: `http://${id}.test` })),
  });
  const { now } = edge.clock;
  const origins = new Map<string, Origin>();
  for (const originId of ids) {
    const mode = {
      kind: 'signed' as const,
      originId,
      keys: [KEY],
      startedAt: now() - 1,
      startId: newStartId(),
    };
    const services = { base: TINY_BASE, ...originOptions.services };
    origins.set(originId, await startTestOrigin({ ...originOptions, now, services, context: { mode } }));
  }
  const sent: string[] = [];
  edge.origin.answer = async (method, path, init, url = '') => {
    const { hostname, search } = new URL(url);
    const id = hostname.slice(0, -'.test'.length);
    const response = await fetch(origins.get(id)?.url + path + search, {
      ...init,
      ...(init.body instanceof ReadableStream ? { duplex: 'half' } : {}),
    } as RequestInit);
    sent.push(`${id} ${method} ${path} ${response.status}`);
    return response;
  };
  const made = await edge.request('/admin/keys', { body: {} });
  const { key } = (await made.json()) as { key: string };
  return {
    ...{ edge, origins, sent, key },
    async ask(model, withKey = key) {
      const answer = await edge.request('/v1/chat/completions', {
        key: withKey,
        body: { model, max_tokens: 1, messages: [{ role: 'user', content: 'hi' }] },
      });
      await answer.text();
      return answer.status;
    },
    async stop() {
      await edge.settled();
      await Promise.all([...origins.values()].map((origin) => origin.stop()));
    },
  };
}
