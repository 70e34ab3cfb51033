/** model.train of graft-lora/browser over a tiny base, in WebAssembly. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { packAdapter, parseCanonical } from '../../adapters/index.ts';
import { answerChat } from '../../browser/worker/answer-chat.ts';
import type * as Graft from '../../browser/index.ts';
import { chainId } from '../../protocol/identity.ts';
import { TrainingCard } from '../../protocol/training.ts';
import { startChromium } from './chromium.ts';
import { DEEP, startClinic, type Clinic } from './graft-clinic.ts';
import { startGraftRig, type GraftRig } from './graft-rig.ts';

/** What the rig's page leaves for the tests. */
declare const graft: typeof Graft;
/** The application's own server, as it were. @param names what the token opens. */
declare const mint: (names: string[]) => Promise<string>;
/** Likewise, to publish. */
declare const mintPublish: (body: { name: string; parent?: string }) => Promise<string>;

const ASKED = 'Say it.';
const CHAT = [{ role: 'user' as const, content: ASKED }];
/** Few numbers, and enough steps to learn two letters by heart. */
const PLAN = { rank: 4, leastSteps: 24, epochs: 1, rate: 0.02, targets: ['q', 'v', 'down'] } as const;
const CHAT_ROWS = Array.from({ length: 12 }, () => ({
  messages: [...CHAT, { role: 'assistant', content: 'ok' }],
}));

let browser: Browser;
let rig: GraftRig;
let clinic: Clinic;
let page: Page;
const complaints: string[] = [];
beforeAll(async () => {
  [browser, rig] = await Promise.all([startChromium(), startGraftRig()]);
  clinic = await startClinic(rig);
});
afterAll(async () => {
  await browser?.close();
  await clinic?.edge.stop();
  await rig?.stop();
});
beforeEach(async () => {
  page = await (await browser.newContext()).newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  page.on('console', (message) => complaints.push(message.text()));
  await page.exposeFunction('mint', (names: string[]) => clinic.mint(names));
  await page.exposeFunction('mintPublish', clinic.mintPublish);
  await load();
});
afterEach(() => page.context().close());

async function load(): Promise<void> {
  rig.requests.length = 0;
  await page.goto(rig.url);
  await page.waitForFunction(() => 'graft' in globalThis);
}

const chunks = (): number => rig.requests.filter((path) => path.endsWith('/graft-training.js')).length;

it('trains, answers at once, keeps the adapter, and exports what packs to the same digest', async () => {
  const made = await page.evaluate(
    async ([rows, chat, plan]) => {
      const model = await graft.open({ base: '/base/', device: 'wasm' });
      const ask = async (of?: Graft.Target): Promise<string> => {
        const options = { max_tokens: 4, temperature: 0, ...(of === undefined ? {} : { model: of }) };
        return (await model.answer(chat, options)).choices[0]!.message.content!;
      };
      const before = await ask();
      const progress: Graft.TrainingProgress[] = [];
      const trained = await model.train(rows, {
        ...{ ...plan, name: 'mine' },
        onProgress: (step) => {
          if (step.stage === 'train') progress.push(step);
        },
      });
      const files = await trained.export();
      const bytes = [...(await trained.bytes())];
      const weights = [...new Uint8Array(await files['adapter_model.safetensors'].arrayBuffer())];
      const texts = [await files['adapter_config.json'].text(), await files['training.json'].text()] as const;
      const { name, version } = model;
      const after = await ask();
      const base = await ask(null);
      model.close();
      const { digest, card } = trained;
      return { before, after, base, name, version, progress, digest, card, bytes, weights, texts };
    },
    [CHAT_ROWS, CHAT, PLAN] as const,
  );
  const { progress, card } = made;
  expect(progress.map(({ step }) => step)).toEqual(Array.from({ length: 24 }, (_, i) => i + 1));
  expect(progress.at(-1)).toMatchObject({ steps: 24, secondsLeft: 0 });
  expect(progress.at(-1)!.loss).toBeLessThan(progress[0]!.loss / 4);
  expect(TrainingCard.parse(card)).toEqual(card);
  expect(card).toMatchObject({
    ...{ base: { id: 'tiny-base', digest: rig.manifest.base.digest, weights: 'int8' }, chain: [], steps: 24 },
    settings: { rank: 4, targets: ['q', 'v', 'down'], batch: 4 },
  });
  expect(JSON.parse(made.texts[1])).toEqual(card);
  expect(made).toMatchObject({ after: 'ok', base: made.before, name: 'mine', version: null });

  const packed = await packAdapter({
    files: { configJson: made.texts[0], weights: Uint8Array.from(made.weights) },
    ...{ baseId: rig.manifest.base.id, parentChainId: null },
  });
  expect(packed.digest).toBe(made.digest);
  expect([...packed.bytes]).toEqual(made.bytes);
  // The origin's own engine answers with it too.
  rig.files.set(packed.digest, packed.bytes);
  const native = await answerChat(rig.native, {
    ...{ body: { messages: CHAT, max_tokens: 4, temperature: 0 }, model: 'mine', onPart: () => {} },
    ...{ chain: [{ digest: packed.digest, scale: 1 }], signal: new AbortController().signal },
  });
  expect(native!.choices[0]!.message.content).toBe('ok');
  expect(chunks()).toBe(1);
  expect(complaints).toEqual([]);

  // Another day, without the trainer.
  await load();
  const later = await page.evaluate(async (chat) => {
    const model = await graft.open({ base: '/base/', device: 'wasm' });
    const listed = (await model.trained()).map(({ trained, digest }) => ({ trained, digest }));
    const serving = await model.use({ trained: 'mine' });
    const answer = await model.answer(chat, { max_tokens: 4, temperature: 0 });
    await model.forget('mine');
    const left = [model.name, await model.trained()];
    const again = await model.use({ trained: 'mine' }).catch((error: Graft.GraftError) => error.code);
    model.close();
    return { listed, serving, answer: answer.choices[0]!.message.content, left, again };
  }, CHAT);
  expect(later).toEqual({
    listed: [{ trained: 'mine', digest: made.digest }],
    serving: { name: 'mine', version: null, offline: false, trained: true },
    ...{ answer: 'ok', left: [null, []], again: 'model_not_found' },
  });
  expect(chunks()).toBe(0);
});

it('trains on a chain of the edge and on an adapter trained here, and says so in the card', async () => {
  const rows = CHAT_ROWS;
  const made = await page.evaluate(
    async ([url, rows, chat, plan, deep]) => {
      const token = (): Promise<string> => mint([deep]);
      const model = await graft.open({ ...{ url, token }, base: '/base/', device: 'wasm' });
      const first = await model.train(rows, { ...plan, name: 'a', on: deep });
      const answer = await model.answer(chat, { max_tokens: 4, temperature: 0 });
      const second = await model.train(rows, { ...plan, leastSteps: 2, epochs: 0.1, name: 'b', on: first });
      const listed = (await model.trained()).map(({ trained }) => trained);
      const files = [[...(await first.bytes())], [...(await second.bytes())]];
      model.close();
      return {
        ...{ chains: [first.card.chain, second.card.chain], digests: [first.digest, second.digest], files },
        ...{ listed, answer: answer.choices[0]!.message.content },
      };
    },
    [clinic.edge.edge.url, rows, CHAT, PLAN, DEEP] as const,
  );
  const { attention, patterned } = clinic.packed;
  const below = [attention.digest, patterned.digest].map((digest) => ({ digest, scale: 1 }));
  const own = { digest: made.digests[0]!, scale: 1 };
  expect(made).toMatchObject({ chains: [below, [...below, own]], listed: ['a', 'b'], answer: 'ok' });
  const parents = made.files.map((file) => parseCanonical(Uint8Array.from(file)).config.parent);
  expect(parents).toEqual([await chainId(below), await chainId([...below, own])]);
});

it('publishes what it trained with a token of one name, staged, and no rows', async () => {
  const bodies: string[] = [];
  page.context().on('request', (request) => bodies.push(request.postDataBuffer()?.toString('latin1') ?? ''));
  const made = await page.evaluate(
    async ([url, rows, plan, deep]) => {
      const model = await graft.open({ url, token: () => mint([deep]), base: '/base/', device: 'wasm' });
      const trained = await model.train(rows, { ...plan, leastSteps: 2, epochs: 0.1, name: 'a', on: deep });
      const other = await model.train(rows, { ...plan, leastSteps: 3, epochs: 0.1, name: 'b' });
      const sent: number[][] = [];
      const token = await mintPublish({ name: `${deep}/mine`, parent: deep });
      const options = {
        token,
        onProgress: ({ done, total }: Graft.PublishProgress) => sent.push([done, total]),
      };
      const published = await trained.publish({ ...options, name: `${deep}/mine` });
      const again = await trained.publish({ token });
      const refusal = (adapter: Graft.TrainedAdapter, options: Graft.PublishOptions): Promise<unknown> =>
        adapter.publish(options).then(
          () => 'published',
          ({ code }: Graft.GraftError) => code,
        );
      const fresh = (): Promise<string> => mintPublish({ name: `${deep}/mine`, parent: deep });
      const ending = new AbortController();
      ending.abort('enough');
      const refusals = [
        await refusal(other, { token }),
        await refusal(other, { token: fresh }),
        await refusal(trained, { token: fresh, name: deep }),
        await refusal(trained, { token: `${token}x` }),
        await refusal(trained, {
          token: () => Promise.reject(Object.assign(new Error('no'), { code: 'own' })),
        }),
        await trained.publish({ token: fresh, signal: ending.signal }).catch((error: unknown) => error),
      ];
      const size = (await trained.bytes()).length;
      model.close();
      const alone = await graft.open({ base: '/base/', device: 'wasm' });
      const [kept] = await alone.trained();
      refusals.push(await refusal(kept!, { token }));
      alone.close();
      return { published, again, sent, refusals, size, digest: trained.digest, card: trained.card };
    },
    [clinic.edge.edge.url, CHAT_ROWS, PLAN, DEEP] as const,
  );
  const name = `${DEEP}/mine`;
  expect(made.published).toEqual({ name, version: 1, live: false });
  expect(made.again).toEqual(made.published);
  expect(made.sent).toEqual([
    [0, made.size],
    [made.size, made.size],
  ]);
  expect(made.refusals).toEqual([
    'publish_token_spent',
    // It was trained on the base.
    'adapter_invalid',
    'insufficient_scope',
    'invalid_api_key',
    'own',
    'enough',
    'invalid_request',
  ]);
  expect(bodies.map(({ length }) => length)).toContain(made.size);
  expect(bodies.filter((body) => body.includes(ASKED))).toEqual([]);
  const listed = await clinic.edge.admin(`/admin/versions?name=${name}`);
  const { version, versions } = (await listed.json()) as { version: null; versions: object[] };
  expect(version).toBeNull();
  expect(versions).toMatchObject([
    { digest: made.digest, parent: `${DEEP}@1`, training: made.card, live: false },
  ]);
});

it('answers during a training as it does without one', async () => {
  const { alone, during, steps } = await page.evaluate(
    async ([rows, chat, plan]) => {
      const model = await graft.open({ base: '/base/', device: 'wasm' });
      const ask = async (): Promise<unknown> =>
        (await model.answer(chat, { max_tokens: 8, temperature: 0, model: null, logprobs: true })).choices;
      const alone = await ask();
      const steps: number[] = [];
      const during: unknown[] = [];
      let ended = false;
      const training = model
        .train(rows, {
          ...plan,
          onProgress: (step) => step.stage === 'train' && steps.push(step.step),
        })
        .finally(() => (ended = true));
      // The first answer may come before the first step.
      while (!ended) during.push([steps.length, await ask()]);
      await training;
      model.close();
      return { alone, during: during as [number, unknown][], steps };
    },
    [CHAT_ROWS, CHAT, PLAN] as const,
  );
  expect(steps).toHaveLength(24);
  expect(during.filter(([step]) => step > 0 && step < 24).length).toBeGreaterThan(1);
  for (const [, choices] of during) expect(choices).toEqual(alone);
});

it('says what is wrong with rows and settings, by row and line', async () => {
  const problems = await page.evaluate(async () => {
    const model = await graft.open({ base: '/base/', device: 'wasm' });
    const refusal = (rows: Graft.TrainingRows, options: Graft.TrainOptions = {}): Promise<unknown> =>
      model.train(rows, options).then(
        () => 'trained',
        ({ code, message, param }: Graft.GraftError) => ({ code, message, param }),
      );
    const good = { prompt: 'a', completion: 'b' };
    const all = [
      await refusal([good, { prompt: 'a' }]),
      await refusal(`${JSON.stringify(good)}\n{"prompt`),
      await refusal(new Blob(['prompt,answer\na,b\n'])),
      await refusal('{"text": "a", "label": "b"}'),
      await refusal([]),
      await refusal([{ prompt: 'a', completion: 'b'.repeat(99) }], { maxLength: 16 }),
      await refusal([good], { rank: 0 }),
      await refusal([good], { maxLength: 1 }),
      await refusal([good], { on: { trained: 'nobody' } }),
    ];
    const left = await model.trained();
    model.close();
    return [...all, left];
  });
  const message = (text: RegExp): unknown => expect.stringMatching(text);
  expect(problems).toEqual([
    { code: 'rows_invalid', message: message(/^row 2: .*completion/), param: 'rows' },
    { code: 'rows_invalid', message: 'line 2: The line is not JSON.', param: 'rows' },
    { code: 'rows_invalid', message: message(/^line 1: Unknown column 'answer'/), param: 'rows' },
    {
      code: 'rows_invalid',
      message: message(/^line 1: a label or score trains a .* Use graft train/),
      param: 'rows',
    },
    { code: 'no_rows', message: 'There are no rows to train on.', param: 'rows' },
    {
      code: 'no_rows',
      message: message(/^No row can be used\. row 1: .* more than 16 tokens/),
      param: 'rows',
    },
    { code: 'invalid_request', message: message(/^rank: /), param: 'rank' },
    { code: 'invalid_request', message: message(/^maxLength: /), param: 'maxLength' },
    { code: 'model_not_found', message: message(/^No adapter 'nobody' was trained/), param: null },
    [],
  ]);
});

it('ends with the reason of the signal, keeps nothing, and can train again', async () => {
  const left = await page.evaluate(
    async ([rows, chat, plan]) => {
      const model = await graft.open({ base: '/base/', device: 'wasm' });
      const ending = new AbortController();
      const reason = await model
        .train(rows, {
          ...{ ...plan, signal: ending.signal },
          onProgress: (step) => {
            if (step.stage === 'train' && step.step === 2) ending.abort('enough');
          },
        })
        .catch((error: unknown) => error);
      const answer = await model.answer(chat, { max_tokens: 2, temperature: 0 });
      const { name } = model;
      const kept = await model.trained();
      const again = await model.train('prompt,completion\na,b\nc,d\n', { ...plan, leastSteps: 2 });
      model.close();
      return { reason, tokens: answer.usage!.completion_tokens, name, kept, steps: again.card.steps };
    },
    [CHAT_ROWS, CHAT, PLAN] as const,
  );
  expect(left).toEqual({ reason: 'enough', tokens: 2, name: null, kept: [], steps: 2 });
});

it('refuses to begin when the browser has no room for the result', async () => {
  const session = await page.context().newCDPSession(page);
  await page.evaluate(async () => {
    Object.assign(globalThis, { model: await graft.open({ base: '/base/', device: 'wasm' }) });
  });
  await session.send('Storage.overrideQuotaForOrigin', { origin: rig.url, quotaSize: 150_000 });
  const { code, message } = await page.evaluate(
    async ([rows, plan]) => {
      const { model } = globalThis as unknown as { model: Graft.Model };
      const error = await model.train(rows, plan).catch((caught: unknown) => caught as Graft.GraftError);
      model.close();
      const { code, message } = error as Graft.GraftError;
      return { code, message };
    },
    [CHAT_ROWS, PLAN] as const,
  );
  expect(code).toBe('storage_full');
  expect(message).toMatch(/has no 1 MB left for the adapter/);
});

it('trains on the GPU, which SwiftShader draws here, with the losses of WebAssembly', async () => {
  const gpu = await startChromium({ webgpu: true });
  try {
    const own = await gpu.newPage();
    await own.goto(rig.url);
    await own.waitForFunction(() => 'graft' in globalThis);
    const [webgpu, wasm] = await own.evaluate(
      async ([rows, chat, plan]) => {
        const train = async (device: Graft.WantedDevice): Promise<{ losses: number[]; answer: string }> => {
          const model = await graft.open({ base: '/base/', device });
          const losses: number[] = [];
          await model.train(rows, {
            ...{ ...plan, leastSteps: 5, epochs: 0.1 },
            onProgress: (step) => step.stage === 'train' && losses.push(step.loss),
          });
          const answer = await model.answer(chat, { max_tokens: 4, temperature: 0 });
          model.close();
          return { losses, answer: answer.choices[0]!.message.content! };
        };
        return [await train('webgpu'), await train('wasm')] as const;
      },
      [CHAT_ROWS, CHAT, PLAN] as const,
    );
    const apart = webgpu.losses.map((loss, step) => Math.abs(loss - wasm.losses[step]!) / wasm.losses[0]!);
    console.log(
      `losses apart: first ${apart[0]!.toExponential(1)}, most ${Math.max(...apart).toExponential(1)}`,
    );
    expect(webgpu.losses).toHaveLength(5);
    expect(apart[0]).toBeLessThan(1e-4);
    expect(Math.max(...apart)).toBeLessThan(1e-2);
    expect(webgpu.losses[4]).toBeLessThan(webgpu.losses[0]!);
    expect(webgpu.answer).toBe(wasm.answer);
  } finally {
    await gpu.close();
  }
});
