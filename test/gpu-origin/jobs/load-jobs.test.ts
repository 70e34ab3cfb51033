/** What an origin accepts by the memory that its base takes. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Config } from '../../../gpu-origin/config.ts';
import { loadJobs } from '../../../gpu-origin/load-jobs.ts';
import type { ExpertSizes } from '../../../gpu-origin/model/experts.ts';
import { declarationOf, JOB } from './rig.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-load-jobs-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Jobs over a base that is never loaded: declarations look at its sizes alone. */
async function jobsOver(name: string, experts: ExpertSizes | null) {
  type Params = Parameters<typeof loadJobs>[0];
  const modules = [{ name: 'model.layers.0.self_attn.q_proj', in: 4_096, out: 4_096 }];
  const base = { id: 'tiny', digest: 'b'.repeat(64), weights: 'int8', provider: 'cpu', modules };
  const config = { train: true, basePath: folder, cacheDir: join(folder, name), mode: { kind: 'dev' } };
  const jobs = await loadJobs({
    config: config as unknown as Config,
    services: { base, experts, files: {}, tokenizer: { size: 259 } } as unknown as Params['services'],
    activity: {} as Params['activity'],
    onEnd: () => {},
    onTrouble: () => {},
    onFault: () => {},
  });
  return jobs!;
}

it('refuses a job where all experts of the base do not fit into memory', async () => {
  const dense = await jobsOver('dense', null);
  expect(await dense.declare(JOB, declarationOf())).toMatchObject({ ok: true });
  // 6.6 TB in int8.
  const sparse = await jobsOver('sparse', { layers: 128, count: 4_096, chosen: 8, ffn: 1_024 });
  expect(await sparse.declare(JOB, declarationOf())).toMatchObject({
    ok: false,
    error: { code: 'invalid_request', message: expect.stringMatching(/needs about 6\d{3}\.\d GB/) as string },
  });
});
