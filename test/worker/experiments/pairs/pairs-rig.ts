import { expect } from 'vitest';
import { ExperimentView } from '../../../../protocol/admin-api/experiments.ts';
import { USAGE_HEADER, type OriginRequest } from '../../../../protocol/origin-wire.ts';
import { tinyAdapter } from '../../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness, type AppHarnessOptions } from '../../app-harness.ts';
import { LATER_MS, makeKey } from '../experiment-rig.ts';

export const NAME = 'support/intent';
export const APPLICATION = 'https://app.example.com/judge';
const NOTE = 'prompt=10,completion=5,finish=stop';

export interface Pairs {
  graft: AppHarness;
  id: string;
  view: ExperimentView;
  key: string;
  /** Admin key of the tenant that owns the name. */
  owner: string;
  /** What the origin was asked, by what was asked for: `1`, `2` (versions), `judge`. */
  asked: { model: string; request: OriginRequest['request'] }[];
  /** What each says. */
  says: { 1: string; 2: string; judge: (question: string) => string | Promise<string> };
  admin(path: string, body?: object, key?: string): Promise<{ status: number; json: unknown }>;
  look(): Promise<ExperimentView>;
  /** @returns status and text of the answer, and the time at which it was there. */
  ask(more?: object, key?: string): Promise<{ status: number; text: string }>;
}

export const variants = [
  { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
  { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
];

/** `support/intent` of `acme`, version 1 live and version 2 as its shadow, judged; nobody is in the experiment. */
export async function startPairs(judge: object, options: AppHarnessOptions = {}): Promise<Pairs> {
  const graft = await createAppHarness(options);
  const versions = [1, 2].map((seed) => tinyAdapter({ seed }));
  for (const [i, adapter] of versions.entries()) {
    const more = { owner: 'acme', ...(i === 0 ? {} : { stage: true }) };
    expect((await graft.publish(NAME, adapter, more)).status).toBe(201);
    graft.clock.advance(LATER_MS);
  }
  const says: Pairs['says'] = { 1: 'one', 2: 'two', judge: () => 'tie' };
  const asked: Pairs['asked'] = [];
  const other = graft.origin.answer;
  graft.origin.answer = async (method, path, init, url) => {
    if (!path.startsWith('/v1/')) return other(method, path, init, url);
    const sent = JSON.parse(init.body as string) as OriginRequest;
    const digest = sent.graft.chain.at(-1)?.digest;
    const version = digest === versions[0]!.digest ? 1 : digest === versions[1]!.digest ? 2 : null;
    asked.push({ model: version === null ? 'judge' : String(version), request: sent.request });
    const text = version === null ? await says.judge(JSON.stringify(sent.request)) : says[version as 1 | 2];
    const choices = [{ index: 0, message: { role: 'assistant', content: text }, finish_reason: 'stop' }];
    return Response.json({ choices }, { headers: { [USAGE_HEADER]: NOTE } });
  };
  const key = (await makeKey(graft, { tenant: 'acme' })).key;
  const owner = (await makeKey(graft, { kind: 'admin', tenant: 'acme' })).key;
  const admin: Pairs['admin'] = async (path, body, as = owner) => {
    const response = await graft.request(`/admin/experiments${path}`, {
      key: as,
      ...(body === undefined ? {} : { body }),
    });
    return { status: response.status, json: await response.json() };
  };
  const design = {
    ...{ name: NAME, variants, coverage: 0, judge },
    shadow: { adapter: `${NAME}@2`, sample: 1 },
  };
  const made = await admin('', design);
  expect(made.status, JSON.stringify(made.json)).toBe(201);
  const { id } = ExperimentView.parse(made.json);
  const started = await admin(`/${id}/start`, {});
  expect(started.status, JSON.stringify(started.json)).toBe(200);
  graft.clock.advance(LATER_MS);
  return {
    ...{ graft, id, key, owner, asked, says, admin, view: ExperimentView.parse(started.json) },
    async look() {
      await graft.settled();
      return ExperimentView.parse((await admin(`/${id}/evaluate`, {})).json);
    },
    async ask(more = {}, as = key) {
      const response = await graft.request('/v1/chat/completions', {
        key: as,
        body: { model: NAME, messages: [{ role: 'user', content: 'Where is it?' }], ...more },
      });
      return { status: response.status, text: await response.text() };
    },
  };
}
