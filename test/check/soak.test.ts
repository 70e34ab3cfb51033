import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineEvent, EngineRequest } from '../../gpu-origin/engine/engine.ts';
import { seededRandom, GREEDY, type SamplingParams } from '../../gpu-origin/generation/sampler.ts';
import { taskRows } from './real-base.ts';
import type { RowRecord } from './recording-runner.ts';
import { generate, makeSoakRig, type SoakRig } from './soak-rig.ts';

const SECONDS = Number(process.env['GRAFT_SOAK_SECONDS'] ?? 60);
const SEED = Number(process.env['GRAFT_SOAK_SEED'] ?? 1);
const SLOTS = 16;
/** More clients than slots, so that some always wait. */
const CLIENTS = 20;
/** Less than the 48 adapters and what their chains are composed to need, so that they come and go. */
const ADAPTER_BUDGET_BYTES = 120e6;

const USERS = [...taskRows('cardiology'), ...taskRows('intent')].map(({ user }) => user);
/** A text of about `tokens` tokens that begins at row `from` of the tasks. */
const longUser = (from: number, tokens: number): string => {
  let text = USERS[from]!;
  for (let next = from + 1; text.length < tokens * 4; next++) text += ` ${USERS[next % USERS.length]!}`;
  return text;
};

interface Canary {
  name: string;
  request: EngineRequest;
  alone: { events: EngineEvent[]; row: RowRecord };
}

/** The adapters of a chain by the examples' names, the sampling, and how long the prompt is. */
const CANARIES: readonly {
  chain: readonly string[];
  sampling: Partial<SamplingParams>;
  tokens?: number;
  echo?: number;
}[] = [
  { chain: [], sampling: {} },
  { chain: [], sampling: { temperature: 0.8, seed: 1, topP: 0.95 }, tokens: 140 },
  { chain: ['medicine'], sampling: {} },
  { chain: ['medicine'], sampling: { temperature: 1, seed: 2 }, tokens: 300 },
  { chain: ['medicine', 'cardiology'], sampling: {}, tokens: 150 },
  { chain: ['medicine', 'cardiology'], sampling: { temperature: 0.7, seed: 3, topK: 40 } },
  { chain: ['medicine', 'cardiology', 'dr-lee'], sampling: {} },
  { chain: ['medicine', 'cardiology', 'dr-lee'], sampling: { temperature: 0.9, seed: 4 }, tokens: 270 },
  { chain: ['intent-v1'], sampling: { temperature: 1.2, seed: 5, topP: 0.9, topK: 200 } },
  { chain: ['intent-v2'], sampling: {}, tokens: 130, echo: 5 },
];

describe(`${SECONDS} s of joins, aborts, adapter loads and evictions on the real base`, () => {
  let rig: SoakRig;
  beforeAll(async () => {
    rig = await makeSoakRig({
      slots: SLOTS,
      adapterBudgetBytes: ADAPTER_BUDGET_BYTES,
      random: seededRandom(SEED),
    });
  });
  afterAll(async () => {
    await rig?.close();
  });

  async function runAlone(): Promise<Canary[]> {
    const canaries: Canary[] = [];
    for (const [index, { chain, sampling, tokens = 0, echo }] of CANARIES.entries()) {
      const request: EngineRequest = {
        id: `canary ${index}`,
        tenant: 'canary',
        prompt: rig.encode(`Canary ${index}: ${longUser(index * 7, tokens)}`),
        chain: chain.map((name) => ({ digest: rig.example.get(name)!, scale: 1 })),
        sampling: {
          ...GREEDY,
          maxTokens: 48,
          ignoreEos: true,
          logprobs: index % 2 === 0 ? 20 : 3,
          ...sampling,
        },
        promptLogprobs: echo ?? null,
        budgetMs: null,
      };
      const events = await generate(rig.engine, request);
      expect(events.at(-1)).toMatchObject({ kind: 'end', finishReason: 'length' });
      const name = `${chain.join('/') || 'base'}, ${request.prompt.length} tokens, temperature ${request.sampling.temperature}`;
      canaries.push({ name, request, alone: { events, row: rig.runner.records.at(-1)! } });
    }
    return canaries;
  }

  function noise(random: () => number): EngineRequest {
    const below = (limit: number): number => Math.floor(random() * limit);
    const adapters = [...rig.random, ...rig.example.values()];
    return {
      id: 'noise',
      tenant: `tenant ${below(4)}`,
      prompt: rig.encode(
        longUser(below(USERS.length), [0, 0, 0, 0, 0, 0, 0, 125, 140, 260, 420][below(11)]!),
      ),
      chain: Array.from({ length: [0, 1, 1, 1, 2, 3][below(6)]! }, () => ({
        digest: adapters[below(adapters.length)]!,
        scale: [0.25, 0.5, 1][below(3)]!,
      })),
      sampling: {
        ...GREEDY,
        maxTokens: 1 + below(120),
        ignoreEos: random() < 0.7,
        ...(random() < 0.5 ? { temperature: random() * 1.5, topP: 0.5 + random() / 2 } : {}),
        ...(random() < 0.3 ? { topK: 1 + below(50) } : {}),
        ...(random() < 0.3 ? { logprobs: below(6) } : {}),
      },
      promptLogprobs: random() < 0.05 ? 2 : null,
      budgetMs: null,
    };
  }

  it('every canary is bit for bit what it is alone', async () => {
    const canaries = await runAlone();
    rig.runner.records.length = 0;
    rig.counts.evictions = 0;
    rig.counts.loads = 0;
    rig.counts.steps.clear();
    const until = performance.now() + SECONDS * 1_000;
    const seen = { finished: 0, aborted: 0, noise: 0 };
    const different: string[] = [];
    // A busy machine does less in a minute, and goes on until enough has been seen.
    const goesOn = (): boolean =>
      performance.now() < until ||
      seen.finished <= canaries.length ||
      seen.aborted <= 10 ||
      rig.counts.evictions <= 10 ||
      rig.runner.reused === 0 ||
      rig.runner.mixed === 0;

    const client = async (index: number): Promise<void> => {
      const random = seededRandom(SEED * 1_000 + index);
      while (goesOn()) {
        for (let turn = Math.floor(random() * 50); turn > 0; turn--)
          await new Promise((resolve) => setImmediate(resolve));
        const canary = random() < 0.5 ? canaries[Math.floor(random() * canaries.length)]! : null;
        const abortAfter = random() < 0.25 ? Math.floor(random() * 60) : Infinity;
        if (random() < 0.05) void rig.engine.prefetch(rig.random[Math.floor(random() * rig.random.length)]!);
        const events = await generate(rig.engine, canary?.request ?? noise(random), abortAfter);
        const end = events.at(-1)!;
        if (end.kind === 'error') throw new Error(`${end.error.code}: ${end.error.message}`);
        if (end.kind === 'aborted') seen.aborted += 1;
        else if (canary === null) seen.noise += 1;
        else seen.finished += 1;
        if (canary !== null && !isPrefix(events, canary.alone.events))
          different.push(`events of ${canary.name}`);
      }
    };
    await Promise.all(Array.from({ length: CLIENTS }, (_, index) => client(index)));

    const steps = [...rig.counts.steps];
    const crowded = steps.reduce((sum, [rows, count]) => sum + (rows >= SLOTS / 2 ? count : 0), 0);
    let logits = 0;
    for (const { name, request, alone } of canaries) {
      const rows = rig.runner.records.filter(({ tokens }) => startsWith(tokens, request.prompt));
      for (const row of rows) {
        logits += row.logits.length;
        if (!startsWith(alone.row.tokens, row.tokens) || !startsWith(alone.row.logits, row.logits))
          different.push(`logits of ${name}`);
      }
    }
    console.log(
      `soak, seed ${SEED}: ${seen.finished} canaries and ${seen.noise} others ended, ${seen.aborted} aborted, ` +
        `${rig.counts.loads} loads, ${rig.counts.evictions} evictions, ${crowded} steps of ${SLOTS / 2} rows or more, ${rig.runner.reused} chunks kept and taken again, ${rig.runner.mixed} tokens decoded beside chunks, ${logits} rows of canaries' logits compared`,
    );
    expect(different).toEqual([]);
    expect(rig.runner.misuses).toEqual([]);
    expect(rig.counts.faults).toEqual([]);
    expect(seen.finished).toBeGreaterThan(canaries.length);
    expect(logits).toBeGreaterThan(48 * canaries.length);
    expect(crowded).toBeGreaterThan(20);
    expect(rig.runner.reused).toBeGreaterThan(0);
    expect(rig.runner.mixed).toBeGreaterThan(0);
    expect(seen.aborted).toBeGreaterThan(10);
    expect(rig.counts.evictions).toBeGreaterThan(10);
    expect(rig.runner.occupied).toEqual([]);
    expect(rig.engine.stats()).toMatchObject({ running: 0, waiting: 0, loading: 0, kvTokens: 0 });
    for (const adapter of rig.engine.residents().adapters) expect(adapter.references).toBe(0);
  });
});

const startsWith = <T>(whole: readonly T[], part: readonly T[]): boolean =>
  part.length <= whole.length && part.every((value, index) => value === whole[index]);

/** Whether `events` are `alone`, or the beginning of it and `aborted`. */
function isPrefix(events: readonly EngineEvent[], alone: readonly EngineEvent[]): boolean {
  const compared = events.at(-1)?.kind === 'aborted' ? events.slice(0, -1) : events;
  if (compared === events && events.length !== alone.length) return false;
  return compared.every((event, index) => written(event) === written(alone[index]!));
}

/** Without what was kept of the prompt, which depends on who asked before. */
const written = (event: EngineEvent): string =>
  JSON.stringify(event, (key, value: unknown) => (key === 'prompt_tokens_details' ? undefined : value));
