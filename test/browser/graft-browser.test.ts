/** graft-lora/browser in Chromium, over a tiny base from a static server. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import type * as Graft from '../../browser/index.ts';
import { answerChat } from '../../browser/worker/answer-chat.ts';
import type { Engine, EngineEvent } from '../../gpu-origin/engine/engine.ts';
import type { ChatCompletion } from '../../protocol/completion-answers.ts';
import { startChromium } from './chromium.ts';
import { startGraftRig, type GraftRig } from './graft-rig.ts';

/** What the rig's page leaves for the tests. */
declare const graft: typeof Graft;

const MESSAGES = [{ role: 'user' as const, content: 'I have a dry cough.' }];
const ASK = { max_tokens: 24, temperature: 0, logprobs: true, top_logprobs: 3 };

let browser: Browser;
let rig: GraftRig;
let page: Page;
const complaints: string[] = [];
beforeAll(async () => {
  browser = await startChromium();
  rig = await startGraftRig();
});
afterAll(async () => {
  await browser?.close();
  await rig?.stop();
});
// A context has a storage of its own.
beforeEach(async () => {
  page = await openPage();
});
afterEach(async () => {
  rig.intercept = null;
  await page.context().close();
});

async function openPage(url = rig.url): Promise<Page> {
  const opened = await (await browser.newContext()).newPage();
  opened.on('pageerror', (error) => complaints.push(String(error)));
  await load(opened, url);
  return opened;
}

async function load(opened: Page, url = rig.url): Promise<void> {
  rig.requests.length = 0;
  await opened.goto(url);
  await opened.waitForFunction(() => 'graft' in globalThis);
}

const parts = (): string[] =>
  rig.requests.filter((path) => path.startsWith('/base/') && path.endsWith('.bin'));

/** @returns the answer, or what was thrown. */
const answerOnce = (ask: object = ASK): Promise<ChatCompletion> =>
  page.evaluate(
    async ([messages, options]) => {
      const model = await graft.open({ base: '/base/' });
      const answer = await model.answer(messages, options);
      model.close();
      return answer;
    },
    [MESSAGES, ask] as const,
  );

/** @returns the code and the message of what `open` throws. */
const refusal = (): Promise<{ code: string; message: string }> =>
  page.evaluate(async () => {
    const error = await graft.open({ base: '/base/' }).then(
      () => new Error('it opened'),
      (caught: unknown) => caught as Graft.GraftError,
    );
    return { code: 'code' in error ? error.code : error.name, message: error.message };
  });

it('answers as the native library does, from a base that is fetched once', async () => {
  const answer = await answerOnce();
  const native = (await answerChat(rig.native, {
    ...{ body: { messages: MESSAGES, ...ASK }, model: 'tiny-base', chain: [], onPart: () => {} },
    signal: new AbortController().signal,
  }))!;
  expect(answer.usage).toEqual(native.usage);
  expect(answer.choices[0]!.message).toEqual(native.choices[0]!.message);
  const scores = (of: ChatCompletion): number[] =>
    of.choices[0]!.logprobs!.content!.map((one) => one.logprob);
  for (const [at, score] of scores(answer).entries()) expect(score).toBeCloseTo(scores(native)[at]!, 2);
  expect(parts().sort()).toEqual(rig.manifest.parts.map(({ sha256 }) => `/base/${sha256}.bin`).sort());

  await load(page);
  expect((await answerOnce()).choices).toEqual(answer.choices);
  expect(parts()).toEqual([]);
  expect(complaints).toEqual([]);
});

it('says how much is stored, and removes it', async () => {
  const stored = () => page.evaluate(() => graft.storedBytes());
  expect(await stored()).toBe(0);
  await answerOnce({ max_tokens: 1 });
  expect(await stored()).toBeGreaterThan(rig.manifest.parts.reduce((sum, { bytes }) => sum + bytes, 0));
  await page.evaluate(() => graft.removeStored());
  expect(await stored()).toBe(0);
  // Where nothing is, there is nothing to remove.
  await page.evaluate(() => graft.removeStored());
  rig.requests.length = 0;
  await answerOnce({ max_tokens: 1 });
  expect(parts()).toHaveLength(rig.manifest.parts.length);
});

it('says how far it is, streams, and answers offline', async () => {
  const { progress, chunks } = await page.evaluate(async (messages) => {
    const progress: Graft.Progress[] = [];
    const model = await graft.open({ base: '/base/', onProgress: (step) => progress.push(step) });
    const chunks = [];
    for await (const chunk of model.chat(messages, {
      max_tokens: 8,
      temperature: 0,
      stream_options: { include_usage: true },
    }))
      chunks.push(chunk);
    model.close();
    return { progress, chunks };
  }, MESSAGES);
  const total = rig.manifest.parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const came = progress.filter(({ stage }) => stage === 'base').map(({ done }) => done);
  expect(came).toEqual([...came].sort((a, b) => a - b));
  expect(came.at(-1)).toBe(total);
  expect(progress.at(-1)).toEqual({ stage: 'runtime', done: 3, total: 3 });
  expect(chunks.at(0)?.choices[0]?.delta.role).toBe('assistant');
  expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { completion_tokens: 8 } });

  // The page itself is the application's to keep; base and runtime are there without it.
  rig.intercept = (path) => (path.startsWith('/base/') ? 'cut' : null);
  const offline = await answerOnce({ max_tokens: 8, temperature: 0 });
  const text = chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('');
  expect(offline.choices[0]!.message.content).toBe(text);
});

it('goes on where it broke off, and fetches again what is damaged', async () => {
  const second = `/base/${rig.manifest.parts[1]!.sha256}.bin`;
  rig.intercept = (path) => (path === second ? 'cut' : null);
  expect(await refusal()).toMatchObject({
    code: 'base_unreachable',
    message: expect.stringContaining('is kept'),
  });
  rig.intercept = null;
  rig.requests.length = 0;
  await answerOnce();
  expect(parts()).toEqual(rig.manifest.parts.slice(1).map(({ sha256 }) => `/base/${sha256}.bin`));

  // As a crash leaves it: the right size, other bytes.
  const damaged = await page.evaluate(async () => {
    const root = await navigator.storage.getDirectory();
    const folder = await (await root.getDirectoryHandle('graft')).getDirectoryHandle('parts');
    const [name] = (await Array.fromAsync(folder.keys())).sort();
    const file = await folder.getFileHandle(name!);
    const writable = await file.createWritable();
    await writable.write(new Uint8Array((await file.getFile()).size));
    await writable.close();
    return name;
  });
  rig.requests.length = 0;
  await answerOnce();
  expect(parts()).toEqual([`/base/${damaged}`]);
});

it('says what is in the way: no base, other bytes, no room', async () => {
  rig.intercept = (path) => (path === '/base/base.json' ? { status: 404, body: new Uint8Array(0) } : null);
  expect(await refusal()).toEqual({
    code: 'base_missing',
    message: `There is no base at ${rig.url}/base/base.json (404): write one with \`graft base export --web\`.`,
  });
  const wrong = new Uint8Array(rig.manifest.parts[0]!.bytes);
  rig.intercept = (path) => (path.endsWith('.bin') ? { status: 200, body: wrong } : null);
  expect(await refusal()).toMatchObject({ code: 'base_damaged', message: expect.stringContaining('sha256') });
  rig.intercept = null;
  const session = await page.context().newCDPSession(page);
  await session.send('Storage.overrideQuotaForOrigin', { origin: rig.url, quotaSize: 150_000 });
  expect(await refusal()).toMatchObject({
    code: 'storage_full',
    message: expect.stringContaining('storage for this page is full: 1 MB more are needed. Free disk space'),
  });
});

it('gives rows up when they are aborted or left, and goes on with the others', async () => {
  const outcome = await page.evaluate(async (messages) => {
    const model = await graft.open({ base: '/base/', rows: 2 });
    const gone = new AbortController();
    const long = { max_tokens: 400, temperature: 0, ignore_eos: true };
    const aborted = model.answer(messages, { ...long, signal: gone.signal });
    const other = model.answer(messages, { max_tokens: 12, temperature: 0 });
    let chunks = 0;
    for await (const _ of model.chat(messages, long)) if (++chunks === 3) break;
    gone.abort(new Error('no longer wanted'));
    const reason = await aborted.catch((error: unknown) => (error as Error).message);
    const whole = (await other).usage;
    // Rows of what was left would keep this one waiting for 800 tokens.
    const after = await model.answer(messages, { max_tokens: 2 });
    const wrong = await model
      .answer(messages, { temperature: 9 })
      .catch((error: unknown) => ({ ...(error as Graft.GraftError), message: (error as Error).message }));
    model.close();
    const closed = await model.answer(messages).catch((error: unknown) => (error as Graft.GraftError).code);
    return { reason, whole, after: after.usage?.completion_tokens, wrong, closed };
  }, MESSAGES);
  expect(outcome).toMatchObject({
    reason: 'no longer wanted',
    whole: { completion_tokens: 12 },
    after: 2,
    wrong: { code: 'invalid_request', param: 'temperature' },
    closed: 'closed',
  });
});

it('gives up the other choices of an answer when one of them fails', async () => {
  const { engine } = rig.native;
  const aborted: number[] = [];
  const failing: AsyncIterable<EngineEvent> = (async function* () {
    const usage = { prompt_tokens: 1, completion_tokens: 0, total_tokens: 1 };
    yield { kind: 'error', error: { code: 'internal_error', message: 'it failed' }, usage } as const;
  })();
  const addChoices: Engine['addChoices'] = async (request, seeds) => {
    const added = await engine.addChoices(request, seeds);
    if (!added.ok) return added;
    const handles = added.value.map((handle, choice) => ({
      ...handle,
      ...(choice === 0 ? { events: failing } : {}),
      abort() {
        aborted.push(choice);
        handle.abort();
      },
    }));
    return { ok: true, value: handles };
  };
  const asked = answerChat(
    { ...rig.native, engine: { addChoices } as Engine },
    {
      ...{ body: { messages: MESSAGES, n: 2, max_tokens: 400, ignore_eos: true }, model: 'tiny-base' },
      ...{ chain: [], onPart: () => {}, signal: new AbortController().signal },
    },
  );
  await expect(asked).rejects.toThrow('it failed');
  expect(aborted).toEqual([0, 1]);
});

it('runs with threads where the page is isolated', async () => {
  const isolated = await startGraftRig({ isolated: true });
  const other = await openPage(isolated.url);
  try {
    const result = await other.evaluate(
      async ([messages, options]) => {
        const model = await graft.open({ base: '/base/', threads: 2 });
        const { choices } = await model.answer(messages, options);
        model.close();
        return { text: choices[0]!.message.content, runtime: model.runtime };
      },
      [MESSAGES, ASK] as const,
    );
    expect(result).toEqual({
      text: (await answerOnce()).choices[0]!.message.content,
      runtime: 'ONNX Runtime in WebAssembly, 2 threads',
    });
  } finally {
    await other.context().close();
    await isolated.stop();
  }
});

it('holds answers to schemas and calls tools, as the native library does, and fetches what that needs once', async () => {
  const schema = {
    type: 'object',
    properties: { city: { enum: ['Rome', 'Oslo'] }, warm: { type: 'boolean' } },
    required: ['city', 'warm'],
    additionalProperties: false,
  };
  const weather = { name: 'weather', parameters: schema, strict: true };
  const asked = { max_tokens: 150, temperature: 0, seed: 1 };
  const town = { ...asked, response_format: { type: 'json_schema', json_schema: { name: 'town', schema } } };
  const call = { ...asked, tool_choice: 'required', tools: [{ type: 'function', function: weather }] };
  const odd = {
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { type: 'sum' } } },
  };
  const chunks = (): number => rig.requests.filter((path) => path.includes('grammar')).length;
  const open = page.evaluate(async (messages) => {
    const model = await graft.open({ base: '/base/', rows: 2 });
    Object.assign(globalThis, { model });
    await model.answer(messages, { max_tokens: 2 });
  }, MESSAGES);
  await open;
  expect(chunks()).toBe(0);
  const said = await page.evaluate(
    async ([messages, town, call, odd]) => {
      const { model } = globalThis as unknown as { model: Graft.Model };
      const answers = await Promise.all([town, call].map((one) => model.answer(messages, one as never)));
      const parts = [];
      for await (const part of model.chat(messages, call as never)) parts.push(part);
      const refused = await model.answer(messages, odd as never).catch((error: unknown) => ({
        ...(error as Graft.GraftError),
      }));
      model.close();
      return { choices: answers.map(({ choices }) => choices[0]!), parts, refused };
    },
    [MESSAGES, town, call, odd] as const,
  );
  expect(chunks()).toBe(1);
  const [ofTown, ofCall] = said.choices;
  const inTown = JSON.parse(ofTown!.message.content!) as { city: string };
  expect(['Rome', 'Oslo']).toContain(inTown.city);
  const [tool] = ofCall!.message.tool_calls!;
  expect(ofCall).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } });
  expect(tool).toMatchObject({ type: 'function', function: { name: 'weather' } });
  const deltas = said.parts.flatMap(({ choices }) => choices[0]?.delta.tool_calls ?? []);
  expect(deltas.map((one) => one.function?.arguments ?? '').join('')).toBe(tool!.function.arguments);
  expect(said.parts.some(({ choices }) => choices[0]?.finish_reason === 'tool_calls')).toBe(true);
  expect(said.refused).toMatchObject({
    ...{ code: 'invalid_request', param: 'response_format.json_schema.schema.type' },
  });
  const native = await Promise.all(
    [town, call].map((one) =>
      answerChat(rig.native, {
        ...{ body: { messages: MESSAGES, ...one }, model: 'tiny-base', chain: [], onPart: () => {} },
        signal: new AbortController().signal,
      }),
    ),
  );
  expect(native[0]!.choices[0]!.message.content).toBe(ofTown!.message.content);
  expect(native[1]!.choices[0]!.message.tool_calls![0]!.function).toEqual(tool!.function);
});
