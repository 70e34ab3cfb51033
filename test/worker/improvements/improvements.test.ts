/** Decisions become rows: whose, with whose consent, in which form, and what is left out. Through the real composition. */
import { beforeEach, describe, expect, it } from 'vitest';
import { parseRows } from '../../../protocol/training-rows.ts';
import type { ImprovementRows } from '../../../protocol/admin-api/improvements.ts';
import { MAX_PREFERENCES } from '../../../worker/improvements/limits.ts';
import { LATER_MS, makeKey } from '../experiments/experiment-rig.ts';
import { APPLICATION, startPairs } from '../experiments/pairs/pairs-rig.ts';
import { type Improvements, NAME, startImprovements } from './improvements-rig.ts';

const HOUR_MS = 3_600_000;

let improve: Improvements;
beforeEach(async () => {
  improve = await startImprovements();
});

const change = async (body: object): Promise<void> => {
  const { graft, api } = improve;
  const response = await graft.request('/admin/keys/change', { body: { id: api.id, ...body } });
  expect(response.status).toBe(200);
  graft.clock.advance(LATER_MS);
};
const why = ({ left_out: leftOut }: ImprovementRows): Record<string, number> =>
  Object.fromEntries(leftOut.map(({ why: reason, count }) => [reason, count]));
const fileOf = ({ rows }: ImprovementRows): Uint8Array =>
  new TextEncoder().encode(rows.map(({ row }) => JSON.stringify(row)).join('\n'));

describe('rows of what users preferred', () => {
  it('are conversation and winner, or both answers, as graft train reads them', async () => {
    await improve.decide('alice', 'blue', 'green');
    await improve.decide('bob', 'red', 'green');
    const messages = [{ role: 'user', content: 'Where is it?' }];
    const sft = await improve.rows();
    expect(sft).toMatchObject({ name: NAME, method: 'sft', users: 2, left_out: [] });
    expect(sft.rows.map(({ by, row }) => ({ by, row }))).toEqual(
      ['blue', 'red'].map((content) => ({
        by: 'user',
        row: { messages: [...messages, { role: 'assistant', content }] },
      })),
    );
    const dpo = await improve.rows('dpo');
    expect(dpo.rows[0]?.row).toEqual({
      input: { messages },
      preferred_output: [{ role: 'assistant', content: 'blue' }],
      non_preferred_output: [{ role: 'assistant', content: 'green' }],
    });
    for (const rows of [sft, dpo])
      expect(parseRows({ bytes: fileOf(rows), format: 'jsonl', method: rows.method })).toMatchObject({
        problemCount: 0,
        rows: [{ line: 1 }, { line: 2 }],
      });
  });

  it('leave a trace of each reading', async () => {
    await improve.decide('alice', 'blue', 'green');
    await improve.rows();
    const log = await improve.graft.request('/admin/history', { key: improve.reader });
    expect(await log.json()).toMatchObject({
      changes: expect.arrayContaining([
        expect.objectContaining({ name: '**', action: 'read-rows', target: NAME }),
      ]) as unknown,
    });
  });

  it('hold no prompt of a key without improve, now or when it was asked', async () => {
    await improve.decide('alice', 'blue', 'green');
    await change({ improve: false });
    expect(await improve.prefer('a', 'b')).toMatchObject({
      status: 403,
      json: { error: { message: expect.stringMatching(/--keep-prompts 30d --improve/) as string } },
    });
    expect(await improve.rows()).toMatchObject({ rows: [], left_out: [{ why: 'consent', count: 1 }] });
    // Asked without, and told with it.
    const [chosen, rejected] = [await improve.ask('blue'), await improve.ask('green')];
    await change({ improve: true });
    expect(await improve.prefer(chosen, rejected)).toMatchObject({ status: 200 });
    expect(why(await improve.rows())).toEqual({ consent: 1 });
  });

  it('end with the kept prompts', async () => {
    await improve.decide('alice', 'blue', 'green');
    improve.graft.clock.advance(24 * HOUR_MS);
    expect(await improve.rows()).toMatchObject({ rows: [], left_out: [] });
    await improve.decide('alice', 'blue', 'green');
    await change({ keep_prompts: 1 });
    improve.graft.clock.advance(HOUR_MS);
    expect((await improve.rows()).rows).toEqual([]);
    await improve.decide('alice', 'blue', 'green');
    await change({ keep_prompts: null });
    expect(await improve.rows()).toMatchObject({ rows: [], left_out: [] });
    const count = improve.graft.db.prepare('SELECT COUNT(*) AS n FROM preferences');
    expect(await count.first()).toEqual({ n: 0 });
  });

  it('are deleted when they have expired, the oldest beyond a thousand, and with their tenant', async () => {
    const { graft, api } = improve;
    const count = async (): Promise<unknown> =>
      (await graft.db.prepare('SELECT COUNT(*) AS n FROM preferences').first<{ n: number }>())?.n;
    const tell = (at: number): Promise<string> =>
      graft.stores.preferences.add({
        ...{ tenant: 'acme', keyId: api.id, chosen: `a${at}`, rejected: `b${at}` },
        at: graft.clock.now() + at,
      });
    for (let at = 0; at < MAX_PREFERENCES + 3; at += 1) expect(await tell(at)).toBe('recorded');
    expect(await count()).toBe(MAX_PREFERENCES);
    const [oldest] = await graft.stores.preferences.list({ tenant: 'acme', now: graft.clock.now() });
    expect(oldest?.chosen).toBe('a3');
    graft.clock.advance(24 * HOUR_MS + 100);
    await graft.schedule((work) => void work.catch(() => undefined));
    expect(await count()).toBe(MAX_PREFERENCES + 3 - 101);
    for (let cursor: string | null | undefined; cursor !== null;) {
      const body = { tenant: 'acme', ...(cursor === undefined ? {} : { cursor }) };
      const page = await graft.request('/admin/erase', { body });
      expect(page.status).toBe(200);
      ({ cursor } = (await page.json()) as { cursor: string | null });
    }
    expect(await count()).toBe(0);
  });

  it('are of the tenant that owns the name alone', async () => {
    await improve.decide('alice', 'blue', 'green');
    const { graft } = improve;
    // Another tenant may ask the name, and its key keeps prompts and improves.
    await graft.request('/admin/grants', { body: { scope: NAME, tenant: 'guest' } });
    const guest = (await makeKey(graft, { tenant: 'guest', keep_prompts: 24, improve: true })).key;
    graft.clock.advance(LATER_MS);
    const ids = [await improve.ask('mine', {}, guest), await improve.ask('yours', {}, guest)];
    expect(await improve.prefer(ids[0]!, ids[1]!, guest)).toMatchObject({ status: 200 });
    // And tells of requests that are not its own.
    const own = [await improve.ask('x', { user: 'carol' }), await improve.ask('y', { user: 'carol' })];
    expect(await improve.prefer(own[0]!, own[1]!, guest)).toMatchObject({ status: 200 });
    const { rows } = await improve.rows();
    expect(JSON.stringify(rows)).not.toMatch(/mine|yours|"x"/);
    expect(rows).toHaveLength(1);
    const stranger = (await makeKey(graft, { kind: 'admin', tenant: 'guest', prompts: true })).key;
    for (const key of [stranger, graft.adminKey])
      expect((await graft.request('/admin/improvements', { key, body: { name: NAME } })).status).toBe(404);
    const blind = (await makeKey(graft, { kind: 'admin', tenant: 'acme' })).key;
    expect((await graft.request('/admin/improvements', { key: blind, body: { name: NAME } })).status).toBe(
      403,
    );
  });

  it('say why a decision makes none', async () => {
    const { ask, prefer } = improve;
    const other = { messages: [{ role: 'user', content: 'Another question' }] };
    const tools = { tools: [{ type: 'function', function: { name: 'look', parameters: {} } }] };
    const long = { messages: [{ role: 'user', content: 'x'.repeat(20_000) }] };
    const raw = { path: '/v1/completions', messages: undefined, prompt: 'Once' };
    const classes = { path: '/v1/classify' };
    const cases: [object, object, string][] = [
      [{}, other, 'different'],
      [tools, tools, 'form'],
      [long, long, 'cut'],
      [raw, raw, 'form'],
      [classes, classes, 'form'],
      [{ model: 'base' }, { model: 'base' }, ''],
    ];
    for (const [at, [one, two]] of cases.entries())
      await prefer(await ask('a', { user: `u${at}`, ...one }), await ask('b', { user: `u${at}`, ...two }));
    await prefer(await ask('same', { user: 'u8' }), await ask('same', { user: 'u8' }));
    const [a, b] = [await ask('a', { user: 'u9' }), await ask('b', { user: 'u9' })];
    await prefer(a, b);
    await prefer(b, a);
    await prefer(await ask('a', { user: 'u10' }), 'never-asked');
    expect(await prefer(a, b)).toMatchObject({ json: { object: 'graft.preference', status: 'known' } });
    expect(await prefer(a, a)).toMatchObject({ status: 400 });
    expect(why(await improve.rows())).toEqual({
      ...{ different: 1, form: 3, cut: 1, tie: 1, contradicted: 2, gone: 1 },
    });
  });

  it('are one a day of one user, and of requests without a user one of their key', async () => {
    for (let time = 0; time < 3; time += 1) await improve.decide('alice', `a${time}`, 'green');
    for (const better of ['k1', 'k2'])
      await improve.prefer(await improve.ask(better), await improve.ask('green'));
    const first = await improve.rows();
    expect(first.rows.map(({ row }) => JSON.stringify(row).match(/"(a\d|k\d)"/)?.[1])).toEqual(['a0', 'k1']);
    expect(why(first)).toEqual({ day: 3 });
  });
});

describe('rows of what judges preferred', () => {
  it('are kept pairs of keys with improve, without ties', async () => {
    const pairs = await startPairs({ url: APPLICATION, keep_pairs: 50 });
    const { graft } = pairs;
    const api = await makeKey(graft, { tenant: 'acme', improve: true });
    const reader = (await makeKey(graft, { kind: 'admin', tenant: 'acme', prompts: true })).key;
    graft.clock.advance(LATER_MS);
    const choices = ['a', 'b', 'tie'];
    let treatmentFirst = false;
    graft.application.answer = async (_url, init) => {
      const { answers } = JSON.parse(init.body as string) as { answers: { a: string } };
      treatmentFirst = answers.a === 'two';
      const wanted = choices.shift() ?? 'tie';
      const swapped = wanted === 'a' ? 'b' : 'a';
      return Response.json({ choice: wanted === 'tie' ? 'tie' : treatmentFirst ? wanted : swapped });
    };
    for (const user of ['alice', 'bob', 'carol']) {
      await pairs.ask({ user }, api.key);
      await graft.settled();
      graft.clock.advance(1);
    }
    // A key without it.
    await pairs.ask({ user: 'dave' });
    await graft.settled();
    const ask = async (): Promise<ImprovementRows> => {
      const response = await graft.request('/admin/improvements', { key: reader, body: { name: NAME } });
      return (await response.json()) as ImprovementRows;
    };
    const rows = await ask();
    expect(rows.rows.map(({ by, row }) => [by, 'messages' in row && row.messages.at(-1)?.content])).toEqual([
      ['judge', 'two'],
      ['judge', 'one'],
    ]);
    expect(why(rows)).toEqual({ consent: 1, tie: 1 });
    // Their owner reads pairs as before, without whose they are.
    const { json } = await pairs.admin(`/${pairs.id}/pairs`);
    expect(JSON.stringify(json)).not.toMatch(/learner|key_/);
    await graft.request('/admin/keys/change', { body: { id: api.id, improve: false } });
    expect(why(await ask())).toEqual({ consent: 4 });
  });
});
