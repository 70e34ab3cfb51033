/** Adapters by name in graft-lora/browser: a page on one origin, the real edge in workerd on another. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type * as Graft from '../../browser/index.ts';
import { answerChat } from '../../browser/worker/answer-chat.ts';
import type { TestEdge } from '../worker/edge-harness.ts';
import { startChromium } from './chromium.ts';
import { DEEP, NOTES, startClinic, type Clinic } from './graft-clinic.ts';
import { startGraftRig, type GraftRig } from './graft-rig.ts';

/** What the rig's page leaves for the tests. */
declare const graft: typeof Graft;
/** The application's own server, as it were. @param names what the token opens. */
declare const mint: (names: string[]) => Promise<string>;

const MESSAGES = [{ role: 'user' as const, content: 'I have a dry cough.' }];
const ASK = { max_tokens: 16, temperature: 0 };

let browser: Browser;
let rig: GraftRig;
let edge: TestEdge;
let page: Page;
let packed: Clinic['packed'];
let clinic: Clinic;
let away = false;

beforeAll(async () => {
  [browser, rig] = await Promise.all([startChromium(), startGraftRig()]);
  clinic = await startClinic(rig);
  ({ edge, packed } = clinic);
});
afterAll(async () => {
  await browser?.close();
  await edge?.stop();
  await rig?.stop();
});
beforeEach(async () => {
  page = await (await browser.newContext()).newPage();
  await page.exposeFunction('mint', mintForBrowser);
  await load();
});
afterEach(async () => {
  away = false;
  await page.context().close();
});

async function mintForBrowser(names: string[]): Promise<string> {
  if (away) throw new Error('the server is away');
  return clinic.mint(names);
}

async function load(): Promise<void> {
  rig.requests.length = 0;
  await page.goto(rig.url);
  await page.waitForFunction(() => 'graft' in globalThis);
}

/** What the native library answers with a chain of these. */
async function native(...kinds: (keyof Clinic['packed'])[]): Promise<string | null> {
  const chain = kinds.map((kind) => ({ digest: packed[kind].digest, scale: 1 }));
  const answer = await answerChat(rig.native, {
    ...{ body: { messages: MESSAGES, ...ASK }, model: 'x', chain, onPart: () => {} },
    signal: new AbortController().signal,
  });
  return answer!.choices[0]!.message.content;
}

it('answers with a chain by name, swaps it without the base, and batches several', async () => {
  const result = await page.evaluate(
    async ([url, messages, ask]) => {
      const names = ['clinic/notes', 'clinic/notes/deep'];
      const stages: string[] = [];
      const model = await graft.open({
        ...{ url, base: '/base/', name: 'clinic/notes/deep', token: () => mint(names) },
        onProgress: ({ stage }) => stages.push(stage),
      });
      const text = async (options: object): Promise<string | null> =>
        (await model.answer(messages, { ...ask, ...options })).choices[0]!.message.content;
      const deep = await text({});
      const used = await model.use('clinic/notes');
      const notes = await text({});
      const together = await Promise.all([
        text({ model: 'clinic/notes/deep' }),
        text({}),
        text({ model: null }),
      ]);
      const { model: said } = await model.answer(messages, { max_tokens: 1 });
      model.close();
      return { deep, notes, together, used, said, name: model.name, stages: [...new Set(stages)] };
    },
    [edge.edge.url, MESSAGES, ASK] as const,
  );
  const [deep, notes, base] = [
    await native('attention', 'patterned'),
    await native('attention'),
    await native(),
  ];
  expect(new Set([deep, notes, base]).size).toBe(3);
  expect(result).toMatchObject({
    ...{ deep, notes, together: [deep, notes, base], said: NOTES, name: NOTES },
    used: { name: NOTES, version: 1, offline: false },
    stages: ['base', 'runtime', 'adapter'],
  });
  // The base came once, for all of them.
  const bases = rig.requests.filter((where) => where.endsWith('.bin'));
  expect(bases).toHaveLength(rig.manifest.parts.length);
});

it('takes a new version at the next use, keeps what it has offline, and says so', async () => {
  const open = () =>
    page.evaluate(
      async ([url, name, messages, ask]) => {
        // Where the edge is away, so is who makes its tokens.
        const token = () => mint([name]);
        const model = await graft.open({ url, base: '/base/', name, token });
        const before = (await model.answer(messages, ask)).choices[0]!.message.content;
        const { version, offline } = model;
        Object.assign(globalThis, { model });
        return { before, version, offline };
      },
      [edge.edge.url, 'clinic/changing', MESSAGES, ASK] as const,
    );
  await clinic.publish('clinic/changing', packed['attention']!);
  expect(await open()).toEqual({ before: await native('attention'), version: 1, offline: false });
  await clinic.publish('clinic/changing', packed['everything']!);
  const after = await page.evaluate(
    async ([messages, ask]) => {
      const { model } = globalThis as unknown as { model: Graft.Model };
      const still = (await model.answer(messages, ask)).choices[0]!.message.content;
      const progress: Graft.Progress[] = [];
      const { version } = await model.use('clinic/changing', { onProgress: (step) => progress.push(step) });
      const text = (await model.answer(messages, ask)).choices[0]!.message.content;
      return { still, version, text, last: progress.at(-1) };
    },
    [MESSAGES, ASK] as const,
  );
  const { length } = packed['everything']!.bytes;
  expect(after).toEqual({
    ...{ still: await native('attention'), version: 2, text: await native('everything') },
    last: { stage: 'adapter', done: length, total: length },
  });

  away = true;
  await page.route(`${edge.edge.url}/**`, (route) => route.abort());
  await load();
  expect(await open()).toEqual({ before: await native('everything'), version: 2, offline: true });
  const unknown = await page.evaluate(async () => {
    const { model } = globalThis as unknown as { model: Graft.Model };
    return model.use('clinic/notes').catch((error: unknown) => (error as Error).message);
  });
  expect(unknown).toContain('the server is away');
});

it('has in use what was asked for last, whichever comes first', async () => {
  const names = await page.evaluate(async (url) => {
    const token = () => mint(['clinic/notes', 'clinic/notes/deep']);
    const model = await graft.open({ url, base: '/base/', name: 'clinic/notes', token });
    const slow = model.use('clinic/notes/deep');
    const last = await model.use(null);
    const before = model.name;
    const { name } = await slow;
    const after = model.name;
    model.close();
    return { before, last: last.name, slow: name, after };
  }, edge.edge.url);
  expect(names).toEqual({ before: null, last: null, slow: DEEP, after: null });
});

it('takes a name into use after another page of the site has removed what was stored', async () => {
  await page.evaluate(async (url) => {
    const token = () => mint(['clinic/notes', 'clinic/notes/deep']);
    const model = await graft.open({ url, base: '/base/', name: 'clinic/notes', token });
    Object.assign(globalThis, { model });
  }, edge.edge.url);
  const other = await page.context().newPage();
  await other.goto(rig.url);
  await other.waitForFunction(() => 'graft' in globalThis);
  await other.evaluate(() => graft.removeStored());
  await other.close();
  const texts = await page.evaluate(
    async ([messages, ask]) => {
      const { model } = globalThis as unknown as { model: Graft.Model };
      const text = async (): Promise<string | null> =>
        (await model.answer(messages, ask)).choices[0]!.message.content;
      const before = await text();
      await model.use('clinic/notes/deep');
      const after = await text();
      model.close();
      return [before, after, (await graft.storedBytes()) > 0];
    },
    [MESSAGES, ASK] as const,
  );
  expect(texts).toEqual([await native('attention'), await native('attention', 'patterned'), true]);
});

it('is refused without a token that opens the name, and for another base', async () => {
  const plain = await edge.makeKey({ tenant: 'default' });
  const headers = { 'content-type': 'application/json' };
  const body = JSON.stringify({ names: [NOTES], origin: rig.url });
  const minted = await edge.request('/v1/download-tokens', { method: 'POST', key: plain, headers, body });
  expect(minted.status).toBe(403);
  const refusals = await page.evaluate(async (url) => {
    const model = await graft.open({ url, base: '/base/', token: () => mint(['clinic/other']) });
    const codes: string[] = [];
    const refusal = async (work: Promise<unknown>): Promise<void> => {
      const error = await work.then(
        () => null,
        (caught: unknown) => caught as Graft.GraftError,
      );
      codes.push(error?.code ?? 'none');
    };
    await refusal(model.use('clinic/notes'));
    await refusal(model.answer([{ role: 'user', content: 'Hi' }], { model: 'clinic/notes' }));
    await refusal(model.use('clinic/other'));
    model.close();
    await refusal(graft.open({ url, base: '/base/', name: 'clinic/notes' }));
    await refusal(graft.open({ url, base: '/base/', name: 'clinic/notes', token: 'gk_not-a-token' }));
    await refusal(graft.open({ base: '/base/', name: 'clinic/notes' }));
    return codes;
  }, edge.edge.url);
  expect(refusals).toEqual([
    'insufficient_scope',
    'insufficient_scope',
    'model_not_found',
    'invalid_api_key',
    'invalid_api_key',
    'invalid_request',
  ]);
});
