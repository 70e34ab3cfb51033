/** What a real vLLM does behind an edge and an origin while adapters come and go: 16 mixed, a swap under load, starts anew. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { readBaseShape } from '../../bench/adapters/read-base-shape.ts';
import { ALL_LINEARS, writeRandomAdapter } from '../../bench/adapters/write-random-adapter.ts';
import { createApiClient } from '../../cli/api-client.ts';
import { startStack } from '../../cli/local/stack.ts';
import { createOutput } from '../../cli/output.ts';
import { publishAdapter } from '../../cli/publish/publish-adapter.ts';

const MIXED = 16;
/** Texts that tell most mixed-up adapters; two of random ones may well say the same. */
const ENOUGH_DIFFERENT = 12;
const RANK = 8;
const TOKENS = 24;
/** Of the streams that run while a version changes. */
const LONG = 96;
const STREAMS = 6;

const Listed = z.object({ data: z.array(z.object({ id: z.string() })) });
const Chunk = z.object({ choices: z.array(z.object({ text: z.string() })) });

/** @param params.maxLoras as vLLM was started with. @param problems gets what is not as it should be. */
export async function checkServing(
  params: { url: string; base: string; maxLoras: number; maxLoraRank: number },
  problems: string[],
): Promise<void> {
  const { url, base } = params;
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-vllm-'));
  const output = createOutput({ json: true });
  const start = () =>
    startStack({
      ...{ folder, base, port: 0, originPort: 0, examples: false, output },
      env: { ...process.env, GRAFT_CACHE: path.join(folder, 'cache') },
      originArgs: [
        ...['--engine', 'vllm', '--engine-url', url, '--max-loras', String(params.maxLoras)],
        ...['--max-lora-rank', String(params.maxLoraRank), '--max-cpu-loras', String(MIXED)],
      ],
    });
  let stack = await start();
  const say = (what: string, is: boolean): void => {
    console.log(`${is ? 'so' : 'NOT SO'}: ${what}`);
    if (!is) problems.push(what);
  };
  /** Greedy. @returns which version answered, and its text. */
  const ask = async (model: string, tokens = TOKENS): Promise<{ served: string; text: string }> => {
    const response = await fetch(`${stack.local.url}/v1/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.local.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ model, prompt: 'Once upon a time', max_tokens: tokens, temperature: 0, ignore_eos: true },
        stream: true,
      }),
    });
    const body = await response.text();
    const served = response.headers.get('x-graft-adapter') ?? `status ${response.status}`;
    if (!body.includes('data: [DONE]')) return { served, text: `no whole answer: ${body.slice(-200)}` };
    const events = body.split('\n').filter((line) => line.startsWith('data: {'));
    const texts = events.map((line) => Chunk.safeParse(JSON.parse(line.slice('data: '.length))));
    return { served, text: texts.map(({ data }) => data?.choices[0]?.text ?? '').join('') };
  };
  try {
    const shape = await readBaseShape(base);
    const publish = async (name: string, seed: number): Promise<void> => {
      const given = path.join(folder, `adapter-${seed}`);
      await writeRandomAdapter({
        folder: given,
        seed,
        rank: RANK,
        modules: ALL_LINEARS,
        shape,
        baseName: stack.local.base,
      });
      const client = createApiClient({ url: stack.local.url, key: stack.local.adminKey });
      await publishAdapter({ client, given, name, parent: null, stage: false, output });
    };
    const names = Array.from({ length: MIXED }, (_, i) => `mixed/${i}`);
    for (const [seed, name] of names.entries()) await publish(name, seed);
    const alone: string[] = [];
    for (const name of names) alone.push((await ask(name)).text);
    const different = new Set(alone).size;
    say(`${different} different texts of ${MIXED} adapters`, different >= ENOUGH_DIFFERENT);
    const mixed = await Promise.all(names.map((name) => ask(name)));
    const same = mixed.filter(({ text }, i) => text === alone[i]).length;
    say(`${same} of ${MIXED} adapters asked at once say what each says alone`, same === MIXED);

    await publish('swap', 100);
    const before = await ask('swap', LONG);
    const streams = Promise.all(Array.from({ length: STREAMS }, () => ask('swap', LONG)));
    // When what follows fails, the stack ends, and they with it: that failure is the one to be seen.
    streams.catch(() => undefined);
    await publish('swap', 101);
    const after = await ask('swap', LONG);
    const during = await streams;
    say(
      'a version that goes live under load: what runs ends on the old one, whole',
      during.every(({ served, text }) => (served === 'swap@1' ? text === before.text : text === after.text)),
    );
    say(
      '… and the next request gets the new one, with other words',
      after.served === 'swap@2' && after.text !== before.text,
    );
    say('… and the old one says what it said', (await ask('swap@1', LONG)).text === before.text);

    // As after a start of vLLM's own: it has no adapter any more.
    const { data } = Listed.parse(await (await fetch(`${url}/v1/models`)).json());
    for (const { id } of data.filter(({ id }) => /^[0-9a-f]{64}$/.test(id)))
      await fetch(`${url}/v1/unload_lora_adapter`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ lora_name: id }),
      });
    say('an engine that has lost its adapters is given them again', (await ask('mixed/0')).text === alone[0]);
    await stack.stop();
    stack = await start();
    say(
      'an origin and an edge that were started anew say the same',
      (await ask('mixed/0')).text === alone[0],
    );
  } finally {
    await stack.stop();
    await rm(folder, { recursive: true, force: true });
  }
}
