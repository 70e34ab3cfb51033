import { vi } from 'vitest';
import type { AppHarness } from '../worker/app-harness.ts';

/** Commands reach this edge as the server that they are signed in to, until `vi.unstubAllEnvs` and `unstubAllGlobals`. */
export function reachApp(graft: AppHarness): void {
  for (const [name, value] of [
    ['GRAFT_URL', 'http://edge.test'],
    ['GRAFT_KEY', 'x'],
    ['GRAFT_ADMIN_KEY', graft.adminKey],
  ] as const)
    vi.stubEnv(name, value);
  vi.stubGlobal('fetch', (input: string, init: RequestInit = {}) =>
    graft.request(input.replace('http://edge.test', ''), {
      method: init.method ?? 'GET',
      ...(typeof init.body === 'string' ? { body: JSON.parse(init.body) as unknown } : {}),
    }),
  );
}
