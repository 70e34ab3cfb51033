/** graft/browser on the GPU, which SwiftShader draws here: the answers of WebAssembly, from the same files. */
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type * as Graft from '../../browser/index.ts';
import { startChromium } from './chromium.ts';
import { DEEP, NOTES, startClinic, type Clinic } from './graft-clinic.ts';
import { startGraftRig, type GraftRig } from './graft-rig.ts';
import { TINY_GEMMA4_E2B, TINY_LLAMA, TINY_QWEN3_5, type TinyShape } from '../fixtures/tiny-base.ts';

/** What the rig's page leaves for the tests. */
declare const graft: typeof Graft;
/** The application's own server, as it were. @param names what the token opens. */
declare const mint: (names: string[]) => Promise<string>;

/**
 * Largest difference of log-probabilities above `likely`, nats: WebGPU's products round a row of activations by blocks,
 * WebAssembly's as a whole. Another adapter than the right one has other tokens.
 */
interface Bar {
  likely: number;
  tolerance: number;
}

let browser: Browser;
let rig: GraftRig;
let clinic: Clinic;
let page: Page;
const complaints: string[] = [];
beforeAll(async () => {
  browser = await startChromium({ webgpu: true });
});
afterAll(() => browser?.close());
afterEach(() => page.context().close());

function startStack(shape: TinyShape): void {
  beforeAll(async () => {
    rig = await startGraftRig({ shape });
    clinic = await startClinic(rig);
  });
  afterAll(async () => {
    await clinic?.edge.stop();
    await rig?.stop();
  });
}

async function openPage(): Promise<void> {
  page = await (await browser.newContext()).newPage();
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.exposeFunction('mint', (names: string[]) => clinic.mint(names));
  rig.requests.length = 0;
  await page.goto(rig.url);
  await page.waitForFunction(() => 'graft' in globalThis);
}

const runtimeFiles = (): string[] => rig.requests.filter((where) => where.endsWith('.wasm'));

/**
 * What a page says of the same questions: its runtime, and by question the tokens' log-probabilities.
 * @param byTurns ask for one adapter after the other first, and then in one batch.
 */
const ask = (device: Graft.WantedDevice, byTurns: boolean) =>
  page.evaluate(
    async ([url, names, device, byTurns]) => {
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
      const alone = byTurns ? [await scores(undefined)] : [];
      await model.use(names[0]!);
      if (byTurns) alone.push(await scores(undefined));
      const together = await Promise.all([scores(null), scores(names[1]), scores(undefined)]);
      model.close();
      return { device: model.device, runtime: model.runtime, rows: [...alone, ...together] };
    },
    [clinic.edge.edge.url, [NOTES, DEEP], device, byTurns] as const,
  );

async function expectSameAnswers({ likely, tolerance }: Bar, { byTurns = false } = {}): Promise<void> {
  await openPage();
  const wasm = await ask('auto', byTurns);
  // What the processor draws is slower than what it does in WebAssembly.
  expect(wasm).toMatchObject({ device: 'wasm', runtime: 'ONNX Runtime in WebAssembly, 1 thread' });
  expect(runtimeFiles()).toEqual(['/graft/ort/ort-wasm-simd-threaded.wasm']);
  await page.context().close();

  await openPage();
  const gpu = await ask('webgpu', byTurns);
  expect(gpu).toMatchObject({
    ...{ device: 'webgpu', runtime: 'ONNX Runtime on the GPU by WebGPU (google swiftshader)' },
  });
  expect(runtimeFiles()).toEqual(['/graft/ort/ort-wasm-simd-threaded.jspi.wasm']);
  expect(new Set(wasm.rows.map((row) => JSON.stringify(row))).size).toBe(3);
  let [worst, compared] = [0, 0];
  for (const [at, row] of wasm.rows.entries())
    for (const [index, tokens] of row.entries()) {
      const others = gpu.rows[at]![index]!;
      const wanted = new Map(tokens);
      for (const [token, logprob] of others) {
        const expected = wanted.get(token) ?? -Infinity;
        if (expected <= likely) continue;
        worst = Math.max(worst, Math.abs(logprob - expected));
        compared += 1;
      }
      const [best, other] = [tokens[0]!, others[0]!];
      if (best[0] === other[0]) continue;
      // As likely here as there: what follows is another answer.
      expect(best[1] - (wanted.get(other[0]) ?? -Infinity)).toBeLessThan(tolerance);
      break;
    }
  console.log(`worst difference of ${compared} log-probabilities: ${worst.toFixed(3)}`);
  expect(compared).toBeGreaterThanOrEqual(wasm.rows.length);
  expect(worst).toBeLessThan(tolerance);
  expect(complaints).toEqual([]);
}

describe('Llama', () => {
  startStack(TINY_LLAMA);

  it('answers as WebAssembly does: a chain, another one in its place, and several in one batch', () =>
    // Within 0.08.
    expectSameAnswers({ likely: -2, tolerance: 0.15 }, { byTurns: true }));

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
});

// Chromium checks what a driver may leave unchecked: no program reads a buffer that it writes.
describe.each([
  // The cap of its logits makes all tokens about as likely.
  { name: 'Gemma 4 E2B', shape: TINY_GEMMA4_E2B, bar: { likely: -10, tolerance: 0.05 } },
  // Its random states amplify what is rounded: 0.31. float32 is compared in webgpu.test.ts.
  { name: 'Qwen3.5', shape: TINY_QWEN3_5, bar: { likely: -2, tolerance: 0.4 } },
])('$name', ({ shape, bar }) => {
  startStack(shape);

  it('answers as WebAssembly does: the base, an adapter and a chain in one batch', () =>
    expectSameAnswers(bar));
});
