/** Activated adapters through the engine on tiny bases: against PEFT (test/fixtures/make-activated-reference.py), and bits. */
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packAdapter } from '../../../adapters/index.ts';
import { Engine, type EngineRequest } from '../../../gpu-origin/engine/engine.ts';
import type { ScoredToken } from '../../../gpu-origin/engine/requests.ts';
import { GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import { chainId, type ChainEntry } from '../../../protocol/identity.ts';
import { TINY_ADAPTERS, TINY_SHAPES, TINY_VOCAB, writeTinyAdapter } from '../../fixtures/tiny-base.ts';
import { makeTinyRunner, type TinyRunner } from '../../fixtures/tiny-runner.ts';
import { letters, MemorySource, request, TestClock } from '../engine/harness.ts';

type Chain = [adapter: string, invocation: number[] | null][];
interface Served {
  family: string;
  chain: Chain;
  prompt: number[];
  answer: number[];
  likeliest: number[];
  logprobs: Record<string, number[]>;
}
const reference = JSON.parse(
  readFileSync(new URL('../../fixtures/tiny-activated-reference.json', import.meta.url), 'utf8'),
) as { served: Served[] };

/** Adapters of a tiny base, each packed on those before it. */
async function chainOf(
  tiny: TinyRunner,
  source: MemorySource,
  chain: Chain,
  family: string,
): Promise<ChainEntry[]> {
  const entries: ChainEntry[] = [];
  for (const [name, invocation] of chain) {
    const path = `${tiny.folder}/${name}`;
    writeTinyAdapter(path, TINY_ADAPTERS[name]!, TINY_SHAPES[family]);
    const config = JSON.parse(readFileSync(`${path}/adapter_config.json`, 'utf8')) as object;
    const { bytes, digest } = await packAdapter({
      files: {
        configJson: JSON.stringify({ ...config, alora_invocation_tokens: invocation }),
        weights: new Uint8Array(readFileSync(`${path}/adapter_model.safetensors`)),
      },
      baseId: tiny.runner.base.id,
      parentChainId: entries.length === 0 ? null : await chainId(entries),
    });
    source.files.set(digest, bytes);
    entries.push({ digest, scale: 1 });
  }
  return entries;
}

const engineOf = (runner: TinyRunner['runner'], source: MemorySource): Engine =>
  new Engine({
    ...{ runner, source, clock: new TestClock(), tokens: letters, eosTokenIds: [2], random: () => 0.5 },
    ...{ maxQueue: 64, adapterBudgetBytes: 100_000_000 },
  });

interface Ran {
  prompt: readonly ScoredToken[];
  answer: ScoredToken[];
  cached: number;
}

async function run(engine: Engine, changes: Partial<EngineRequest>): Promise<Ran> {
  const sampling = { ...GREEDY, maxTokens: 12, ignoreEos: true, logprobs: TINY_VOCAB };
  const added = await engine.add(request({ sampling, ...changes }));
  if (!added.ok) throw new Error(added.error.message);
  const ran: Ran = { prompt: [], answer: [], cached: 0 };
  for await (const event of added.value.events) {
    if (event.kind === 'prompt') ran.prompt = event.tokens;
    if (event.kind === 'tokens') ran.answer.push(...event.tokens);
    if (event.kind === 'end') ran.cached = event.usage.prompt_tokens_details?.cached_tokens ?? 0;
    if (event.kind === 'error') throw new Error(event.error.message);
  }
  return ran;
}

const families = [...new Set(reference.served.map(({ family }) => family))];

describe.each(families)('%s against PEFT', (family) => {
  const made: TinyRunner[] = [];
  beforeAll(async () => {
    for (const rotateFloat32 of [false, true])
      made.push(await makeTinyRunner({ shape: TINY_SHAPES[family]!, weights: 'f32', rotateFloat32 }));
  });
  afterAll(() => Promise.all(made.map((tiny) => tiny.close())));

  it.each(reference.served.filter((one) => one.family === family))(
    'serves $chain',
    async ({ chain, prompt, answer, likeliest, logprobs }) => {
      for (const tiny of made) {
        const source = new MemorySource();
        const entries = await chainOf(tiny, source, chain, family);
        const engine = engineOf(tiny.runner, source);
        const ran = await run(engine, { prompt, chain: entries, promptLogprobs: TINY_VOCAB });
        await engine.close();
        expect(ran.answer.map(({ id }) => id)).toEqual(answer);
        // The token after a position has what its logits say.
        const after = [...ran.prompt.slice(1), ran.answer[0]!];
        likeliest.forEach((id, at) => {
          const { top } = after[at]!;
          // Of two that are equally likely, rounding chooses.
          expect(top[0]!.logprob - top.find((token) => token.id === id)!.logprob).toBeLessThan(1e-3);
        });
        for (const [position, expected] of Object.entries(logprobs)) {
          const got = new Map(after[Number(position)]!.top.map(({ id, logprob }) => [id, logprob]));
          expected.forEach((value, id) => expect(Math.abs(got.get(id)! - value)).toBeLessThan(1e-3));
        }
      }
    },
  );
});

describe('an activated adapter in int8', () => {
  const CALL = [7, 9, 7];
  const tokens = (length: number, seed: number): number[] =>
    Array.from({ length }, (_, i) => 20 + ((i * i * 37 + i * 11 + seed) % 230));
  const SYSTEM = tokens(300, 5);
  let tiny: TinyRunner;
  const source = new MemorySource();
  let users: ChainEntry[][];
  beforeAll(async () => {
    tiny = await makeTinyRunner({ weights: 'int8', slots: 4, prefixBytes: 16 * 1024 * 1024 });
    users = [];
    for (const chain of [
      [['everything', CALL]],
      [['attention', CALL]],
      [
        ['attention', null],
        ['everything', CALL],
      ],
      [
        ['everything', CALL],
        ['patterned', [11, 11]],
      ],
    ] as Chain[])
      users.push(await chainOf(tiny, source, chain, 'llama'));
  });
  afterAll(() => tiny.close());
  const prompts = [
    [...SYSTEM, ...CALL, ...tokens(5, 1)],
    [...SYSTEM, ...CALL, ...tokens(150, 2), 11, 11, 30],
  ];

  it('has the same bits with kept chunks as without, alone and beside others', async () => {
    const { runner } = tiny;
    const without = Object.create(runner, { blocks: { value: 0 } }) as typeof runner;
    const asked = prompts.flatMap((prompt) => users.map((chain) => ({ prompt, chain })));
    const alone: Ran[] = [];
    const plain = engineOf(without, source);
    for (const each of asked) alone.push(await run(plain, each));
    await plain.close();
    expect(alone.map(({ cached }) => cached)).toEqual(asked.map(() => 0));
    // The first prompt does not activate the last one's child.
    expect(new Set(alone.map(({ answer }) => JSON.stringify(answer))).size).toBe(asked.length - 1);

    const keeping = engineOf(runner, source);
    const one: Ran[] = [];
    for (const each of asked) one.push(await run(keeping, each));
    expect(one.map(({ answer }) => answer)).toEqual(alone.map(({ answer }) => answer));
    // Users of the base share all before their border: the second, the fourth, and each with the longer prompt.
    expect(one.map(({ cached }) => cached).slice(0, 4)).toEqual([0, 300, 0, 300]);
    const together = await Promise.all([...asked, ...asked].map((each) => run(keeping, each)));
    await keeping.close();
    expect(together.map(({ answer }) => answer)).toEqual([...alone, ...alone].map(({ answer }) => answer));
    expect(together.every(({ cached }) => cached >= 300)).toBe(true);
  });

  it('needs token ids of the base', async () => {
    await expect(chainOf(tiny, source, [['everything', [TINY_VOCAB]]], 'llama')).resolves.toHaveLength(1);
    const engine = engineOf(tiny.runner, source);
    const [entry] = await chainOf(tiny, source, [['everything', [TINY_VOCAB]]], 'llama');
    await expect(run(engine, { prompt: SYSTEM, chain: [entry!] })).rejects.toThrow(/token 259/);
    await engine.close();
  });
});
