import { R16, R8, writeSet, type AdapterSet } from './adapters/adapter-set.ts';
import { CHAT_TURNS, LONG_WORDS, TURN_WORDS } from './load/prompts.ts';
import type { Wave } from './load/run-wave.ts';
import type { Target } from './load/target.ts';
import { compareWaves } from './measurements/compare-waves.ts';
import { benchEdge } from './measurements/bench-edge.ts';
import { measureLongParts } from './measurements/long-parts.ts';
import { swapAdapters } from './measurements/swap-adapters.ts';
import type { BenchOptions, Scenario } from './options.ts';
import type { Report } from './report.ts';
import { watchMemory } from './resident-memory.ts';
import { startStandaloneOrigin, type StandaloneOrigin } from './standalone-origin.ts';

/** New tokens of every request in a wave. */
const TOKENS = 64;
/** Slots of the origin for waves of 16. */
const SLOTS = 16;
const MANY = 64;
/** Adapters that the swaps go round; the origin's memory holds far fewer. */
const SWAP_ADAPTERS = 64;
/** About a third of them: a rank-8 q,v adapter is 1.9 MB in float32. */
const SWAP_BUDGET_BYTES = 40_000_000;

/** Holds the prompts of a wave of long16: 112 whole chunks, of 6 MB each. */
const LONG_CACHE_BYTES = 2 ** 30;

const R8_MANY: AdapterSet = { ...R8, count: MANY };

type Measured = Omit<Report, 'date' | 'machine'>;

/** @param work an empty folder for adapters and state. */
export async function runBench(params: {
  options: BenchOptions;
  base: string;
  work: string;
  signal: AbortSignal;
}): Promise<Measured> {
  const { options, work, signal } = params;
  const wants = (...scenarios: Scenario[]) =>
    scenarios.some((scenario) => options.scenarios.includes(scenario));
  const measured: Measured = {
    base: null,
    waves: [],
    peakBytes: {},
    longParts: null,
    swaps: null,
    edge: null,
  };
  const withOrigin = async <T>(
    sets: readonly AdapterSet[],
    args: readonly string[],
    use: (origin: StandaloneOrigin) => Promise<T>,
  ): Promise<T> => {
    signal.throwIfAborted();
    const adapters = (await Promise.all(sets.map((set) => writeSet(work, set)))).flat();
    const origin = await startStandaloneOrigin({
      base: params.base,
      port: options.port,
      adapters,
      extraArgs: [...args, ...options.originArgs],
    });
    const { id, digest, weights } = origin.base;
    measured.base = { id, digest, weights };
    try {
      return await use(origin);
    } finally {
      await origin.process.stop();
    }
  };
  const waves = async (
    origin: StandaloneOrigin,
    scenario: Scenario,
    wave: Wave,
    set: AdapterSet,
    peers: readonly Target[],
  ) => {
    signal.throwIfAborted();
    const systems = [origin.target('graft', set.prefix), ...peers];
    const { result, peakBytes } = await watchMemory(origin.process.pid, () =>
      compareWaves({ scenario, systems, wave, waves: options.waves, onWave: noteWave(scenario) }),
    );
    measured.waves.push(...result);
    if (wave.adapters > 0) measured.peakBytes[scenario] = peakBytes;
  };

  if (wants('base', 'r8', 'r16', 'one'))
    await withOrigin([R8, R16], ['--slots', String(SLOTS)], async (origin) => {
      const plan: [Scenario, Wave, AdapterSet, readonly Target[]][] = [
        ['base', { requests: SLOTS, adapters: 0, tokens: TOKENS }, R8, options.peers],
        ['r8', { requests: SLOTS, adapters: R8.count, tokens: TOKENS }, R8, options.peers],
        ['r16', { requests: SLOTS, adapters: R16.count, tokens: TOKENS }, R16, options.peersR16],
        ['one', { requests: 1, adapters: 0, tokens: TOKENS }, R8, options.peers],
      ];
      for (const [scenario, wave, set, peers] of plan)
        if (wants(scenario)) await waves(origin, scenario, wave, set, peers);
    });
  if (wants('r8-64'))
    await withOrigin([R8_MANY], ['--slots', String(MANY)], (origin) =>
      waves(origin, 'r8-64', { requests: MANY, adapters: MANY, tokens: TOKENS }, R8_MANY, []),
    );
  const long: Wave = { requests: SLOTS, adapters: R8.count, tokens: TOKENS, words: LONG_WORDS };
  if (wants('long16', 'chat'))
    await withOrigin([R8], ['--slots', String(SLOTS)], async (origin) => {
      const chat: Wave = { ...long, words: TURN_WORDS, turns: CHAT_TURNS };
      for (const [scenario, wave] of [['long16', long] as const, ['chat', chat] as const])
        if (wants(scenario)) await waves(origin, scenario, wave, R8, options.peers);
    });
  if (wants('long16'))
    measured.longParts = await withOrigin(
      [R8],
      ['--slots', String(SLOTS), '--prefix-cache-bytes', String(LONG_CACHE_BYTES)],
      (origin) =>
        measureLongParts({ target: origin.target('graft', R8.prefix), wave: long, rounds: options.waves }),
    );
  if (wants('swaps'))
    measured.swaps = await withOrigin(
      [{ ...R8, count: SWAP_ADAPTERS }],
      ['--slots', String(SLOTS), '--adapter-ram-bytes', String(SWAP_BUDGET_BYTES)],
      (origin) =>
        swapAdapters({
          target: origin.target('graft', R8.prefix),
          pid: origin.process.pid,
          adapters: SWAP_ADAPTERS,
          swaps: options.swaps,
          tokens: 2,
        }),
    );
  if (wants('edge'))
    measured.edge = await benchEdge({ base: params.base, work, pairs: options.pairs, signal });
  return measured;
}

const noteWave =
  (scenario: Scenario) =>
  (system: string, result: { tokensPerSecond: number; problems: string[] }): void => {
    const problem = result.problems[0] === undefined ? '' : ` PROBLEM ${result.problems[0]}`;
    process.stderr.write(`${scenario} ${system}: ${result.tokensPerSecond.toFixed(0)} tok/s${problem}\n`);
  };
