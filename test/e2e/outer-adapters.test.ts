/** Adapters of the head and of the embedding from PEFT's folders to their answers, against a whole stack with a tiny base. */
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { writeSafetensors } from '../../adapters/index.ts';
import { TINY_LLAMA, TINY_VOCAB } from '../fixtures/tiny-base.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

const fixture = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

interface Saved {
  family: string;
  likeliest: number[];
}

let stack: TinyStack;
/** What PEFT makes of the prompt (test/fixtures/make-outer-reference.py). */
let reference: { prompt: number[]; saved: Record<string, Saved> };
const SAVED = ['tied-head', 'tied-both'];
beforeAll(async () => {
  reference = JSON.parse(await readFile(fixture('tiny-outer-reference.json'), 'utf8')) as typeof reference;
  stack = await startTinyStack('', ['--weights', 'f32'], TINY_LLAMA);
  for (const name of SAVED)
    await cp(fixture(`peft-outer/${name}`), path.join(stack.folder, name), { recursive: true });
});
afterAll(() => stack.remove());

/** @returns the likeliest token behind a part of the prompt, as a request for one token gives it. */
async function nextOf(model: string, length: number): Promise<string> {
  const response = await fetch(`${stack.local.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stack.local.key}` },
    body: JSON.stringify({
      model,
      prompt: reference.prompt.slice(0, length),
      max_tokens: 1,
      temperature: 0,
      logprobs: 1,
    }),
  });
  expect(response.status).toBe(200);
  const { choices } = (await response.json()) as { choices: { text: string }[] };
  return choices[0]!.text;
}

/** Of the tiny vocabulary: three special tokens, then bytes. */
const printed = (token: number): string | null =>
  token >= 35 && token < 129 ? String.fromCharCode(token - 3) : null;

it.each(SAVED)('%s is published as PEFT saved it, and answers as PEFT does', async (name) => {
  const published = await stack.graft('publish', name, '--name', `clinic/${name}`);
  expect([published.code, published.stderr]).toEqual([0, expect.any(String)]);
  const { likeliest } = reference.saved[name]!;
  let compared = 0;
  for (let length = 1; length <= likeliest.length && compared < 12; length++) {
    const wanted = printed(likeliest[length - 1]!);
    if (wanted === null) continue;
    compared += 1;
    expect(await nextOf(`clinic/${name}`, length), `behind ${length} tokens`).toBe(wanted);
  }
  expect(compared).toBeGreaterThan(5);
});

it('says what it leaves out, and shows both modules', async () => {
  const shown = await stack.graft('show', 'tied-head');
  expect(shown.stdout + shown.stderr).toContain("The base's own weights of lm_head are left out");
  const both = await stack.graft('show', 'tied-both');
  expect(both.stdout).toMatch(/lm_head[^]*model\.embed_tokens/);
});

it('is downloaded and converted again, and stays the same adapter', async () => {
  expect((await stack.graft('download', 'clinic/tied-both', '--out', 'again')).code).toBe(0);
  for (const kind of ['peft', 'gguf']) {
    const converted = await stack.graft(
      'convert',
      'tied-both',
      `--to`,
      kind,
      '--out',
      `as-${kind}`,
      '--base',
      'tiny-base',
    );
    expect([converted.code, converted.stderr]).toEqual([0, expect.any(String)]);
    const same = await stack.graft('diff', 'tied-both', `as-${kind}`, '--base', 'tiny-base');
    expect([same.code, same.stdout]).toEqual([0, expect.stringMatching(/1\.0/)]);
  }
});

it('is published although it changes the embedding of one token alone, which no trial prompt has', async () => {
  const folder = path.join(stack.folder, 'one-token');
  await mkdir(folder);
  const { hidden } = TINY_LLAMA;
  // A byte that begins no text.
  const token = 3 + 0xfe;
  const a = Float32Array.from({ length: TINY_VOCAB }, (_, at) => (at === token ? 4 : 0));
  const b = Float32Array.from({ length: hidden }, (_, at) => (at % 5) - 2);
  const tensor = (shape: number[], values: Float32Array<ArrayBuffer>) => ({
    ...{ dtype: 'F32' as const, shape, data: new Uint8Array(values.buffer) },
  });
  const prefix = 'base_model.model.model.embed_tokens.lora_embedding';
  const tensors = new Map([
    [`${prefix}_A`, tensor([1, TINY_VOCAB], a)],
    [`${prefix}_B`, tensor([hidden, 1], b)],
  ]);
  await writeFile(path.join(folder, 'adapter_model.safetensors'), writeSafetensors({ tensors }));
  const config = { peft_type: 'LORA', base_model_name_or_path: 'tiny/tiny-base', r: 1, lora_alpha: 1 };
  await writeFile(path.join(folder, 'adapter_config.json'), JSON.stringify(config));
  const published = await stack.graft('publish', 'one-token', '--name', 'clinic/one-token');
  expect([published.code, published.stderr]).toEqual([0, expect.any(String)]);
  const verified = await stack.graft('verify', 'clinic/one-token');
  expect([verified.code, verified.stderr]).toEqual([0, expect.any(String)]);
});

it('refuses whole heads by name', async () => {
  const folder = path.join(stack.folder, 'whole');
  await cp(fixture('peft-outer/tied-head'), folder, { recursive: true });
  const file = path.join(folder, 'adapter_config.json');
  const config = JSON.parse(await readFile(file, 'utf8')) as object;
  await writeFile(file, JSON.stringify({ ...config, modules_to_save: ['lm_head'] }));
  const refused = await stack.graft('publish', 'whole', '--name', 'clinic/whole');
  expect([refused.code, refused.stderr]).toEqual([5, expect.stringMatching(/modules_to_save has "lm_head"/)]);
});
