/** graft/browser on the GPU, which SwiftShader draws here: the answers of WebAssembly, from the same files. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import type * as Graft from '../../browser/index.ts';
import { startChromium } from './chromium.ts';
import { DEEP, NOTES, startClinic, type Clinic } from './graft-clinic.ts';
import { startGraftRig, type GraftRig } from './graft-rig.ts';

/** What the rig's page leaves for the tests. */
declare const graft: typeof Graft;
/** The application's own server, as it were. @param names what the token opens. */
declare const mint: (names: string[]) => Promise<string>;

/**
 * Of log-probabilities above LIKELY, nats: WebGPU's products round a row of activations by blocks, WebAssembly's as a
 * whole. On this base they are within 0.08; another adapter than the right one has other tokens.
 */
const TOLERANCE = 0.15;
const LIKELY = -2;

let browser: Browser;
let rig: GraftRig;
let clinic: Clinic;
let page: Page;
const complaints: string[] = [];
beforeAll(async () => {
  [browser, rig] = await Promise.all([startChromium({ webgpu: true }), startGraftRig()]);
  clinic = await startClinic(rig);
});
afterAll(async () => {
  await browser?.close();
  await clinic?.edge.stop();
  await rig?.stop();
});
afterEach(() => page.context().close());

async function openPage(): Promise<void> {
  page = await (await browser.newContext()).newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.exposeFunction('mint', (names: string[]) => clinic.mint(names));
  rig.requests.length = 0;
  await page.goto(rig.url);
  await page.waitForFunction(() => 'graft' in globalThis);
}

const runtimeFiles = (): string[] => rig.requests.filter((where) => where.endsWith('.wasm'));

/** What a page says of the same questions: its runtime, and by question the tokens' log-probabilities. */
const ask = (device: Graft.WantedDevice) =>
  page.evaluate(
    async ([url, names, device]) => {
      const model = await graft.open({
        ...{ url, base: '/base/', name: names[1]!, token: () => mint([...names]), device, rows: 3 },
      });
      const scores = async (of: string | null | undefined): Promise<[token: string, logprob: number][][]> => {
        const answer = await model.answer([{ role: 'user', content: 'I have a dry cough.' }], {
          ...{ max_tokens: 2, temperature: 0, logprobs: true, top_logprobs: 4 },
          ...(of === undefined ? {} : { model: of }),
        });
        return answer.choices[0]!.logprobs!.content!.map(({ top_logprobs }) =>
          top_logprobs.map(({ bytes, logprob }): [string, number] => [String(bytes), logprob]),
        );
      };
      const deep = await scores(undefined);
      await model.use(names[0]!);
      const notes = await scores(undefined);
      const together = await Promise.all([scores(null), scores(names[1]), scores(undefined)]);
      model.close();
      return { device: model.device, runtime: model.runtime, answers: { deep, notes, together } };
    },
    [clinic.edge.edge.url, [NOTES, DEEP], device] as const,
  );

it('answers as WebAssembly does: a chain, another one in its place, and several in one batch', async () => {
  await openPage();
  const wasm = await ask('auto');
  // What the processor draws is slower than what it does in WebAssembly.
  expect(wasm).toMatchObject({ device: 'wasm', runtime: 'ONNX Runtime in WebAssembly, 1 thread' });
  expect(runtimeFiles()).toEqual(['/graft/ort/ort-wasm-simd-threaded.wasm']);
  await page.context().close();

  await openPage();
  const gpu = await ask('webgpu');
  expect(gpu).toMatchObject({
    ...{ device: 'webgpu', runtime: 'ONNX Runtime on the GPU by WebGPU (google swiftshader)' },
  });
  expect(runtimeFiles()).toEqual(['/graft/ort/ort-wasm-simd-threaded.jspi.wasm']);
  const rows = ({ answers: { deep, notes, together } }: typeof gpu) => [deep, notes, ...together];
  expect(new Set(rows(wasm).map((row) => JSON.stringify(row))).size).toBe(3);
  let worst = 0;
  for (const [at, row] of rows(wasm).entries())
    for (const [index, likely] of row.entries()) {
      const other = rows(gpu)[at]![index]!;
      expect(other[0]![0]).toBe(likely[0]![0]);
      const wanted = new Map(likely.filter(([, logprob]) => logprob > LIKELY));
      for (const [token, logprob] of other)
        if (wanted.has(token)) worst = Math.max(worst, Math.abs(logprob - wanted.get(token)!));
    }
  console.log(`worst difference of a log-probability: ${worst.toFixed(3)}`);
  expect(worst).toBeLessThan(TOLERANCE);
  expect(complaints).toEqual([]);
});

it('says so when the GPU is gone, to who waits and to who asks later', async () => {
  await openPage();
  const said = page.evaluate(async () => {
    const model = await graft.open({ base: '/base/', device: 'webgpu', precision: 'f16' });
    document.title = 'open';
    const messages = [{ role: 'user' as const, content: 'Hi' }];
    const said: unknown[] = [model.runtime];
    for (let times = 0; times < 2; times++)
      said.push(
        await model.answer(messages, { max_tokens: 900, ignore_eos: true }).catch((error: unknown) => {
          const { code, message } = error as Graft.GraftError;
          return `${code}: ${message}`;
        }),
      );
    return said;
  });
  await page.waitForFunction(() => document.title === 'open');
  // As a driver does that hangs.
  await (await browser.newBrowserCDPSession()).send('Browser.crashGpuProcess');
  const [runtime, first, second] = await said;
  // SwiftShader says so of itself.
  expect(runtime).toMatch(/ \(google swiftshader\); in float32, because it does not support float16$/);
  expect(first).toMatch(/^runtime_unavailable: The GPU was lost \(.+\)\. Open the model again\.$/);
  expect(second).toBe(first);
});
