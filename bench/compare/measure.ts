import path from 'node:path';
import { R16, R8, writeSet } from '../adapters/adapter-set.ts';
import { CHAT_TURNS, LONG_WORDS, TURN_WORDS } from '../load/prompts.ts';
import type { Wave, WaveResult } from '../load/run-wave.ts';
import { runWave } from '../load/run-wave.ts';
import type { Target } from '../load/target.ts';
import { summarize, takeTurns, type WaveSummary } from '../measurements/compare-waves.ts';
import { ratiosByTurn, type Ratio } from '../measurements/ratios.ts';
import { startPublishedStack } from '../published-stack.ts';
import { median } from '../statistics.ts';
import { findPeers, runLlamaBench, startLlama, startVllm, type PeerServer } from './peer-servers.ts';

export interface Comparison {
  waves: WaveSummary[];
  /** graft's figure over a peer's of the same turn. */
  ratios: (Ratio & { peer: string })[];
  /**
   * Decode, tokens a second of one request: llama-bench before and after, graft through the edge in between. null: not
   * asked for.
   */
  lonely: { llamaBench: [number, number]; graft: number } | null;
  /**
   * 64 requests at once: the last first token, ms, of those that want 64 tokens and of those that want one. null: not
   * asked for.
   */
  many: { worstTtftMs: number; prefillAloneMs: number } | null;
}

export const COMPARED = ['base', 'r8', 'r16', 'r8-64', 'long16', 'chat', 'one'] as const;
export type Compared = (typeof COMPARED)[number];

/** Waves of one kind against these systems; graft comes first. */
interface Scenario {
  name: Compared;
  wave: Wave;
  systems: readonly Target[];
  turns: number;
  /** Counted waves a turn. */
  waves: number;
}

const TOKENS = 64;
const AT_ONCE = 16;
const MANY = 64;
export const GRAFT = 'graft';

/** graft through its edge, vLLM's CPU build and llama.cpp's server, all started here, in turns in one run. */
export async function comparePeers(params: {
  base: string;
  peers: string;
  /** An empty folder. */
  work: string;
  only: readonly Compared[];
  turns: number;
  waves: number;
  signal: AbortSignal;
  note: (text: string) => void;
}): Promise<Comparison> {
  const { base, work, only, signal, turns, waves, note } = params;
  const peers = findPeers(params.peers);
  const adapters = path.join(work, 'adapters');
  const r8 = await writeSet(adapters, { ...R8, count: MANY });
  const r16 = await writeSet(adapters, R16);
  const folders = (set: readonly { folder: string }[]) => set.map(({ folder }) => folder);
  const stack = await startPublishedStack({ base, work, signal, originArgs: [] });
  const servers: PeerServer[] = [];
  try {
    for (const { name, folder } of [...r8, ...r16]) await stack.publish(`bench/${name}`, folder);
    note('graft is ready');
    const llama = { executable: peers.llamaServer, base: peers.gguf, signal };
    for (const start of [
      () => startLlama({ ...llama, label: 'llama.cpp', folders: folders(r8) }),
      () => startLlama({ ...llama, label: 'llama.cpp', folders: folders(r16) }),
      () =>
        startVllm({
          ...{ executable: peers.vllm, base: peers.hf, label: 'vLLM', prefix: R8.prefix, signal },
          ...{ folders: folders(r8), rank: R8.rank },
        }),
    ]) {
      servers.push(await start());
      note(`${servers.at(-1)!.target.label} is ready`);
    }
    const [llamaR8, llamaR16, vllm] = servers.map(({ target }) => target) as [Target, Target, Target];
    const [edge, edgeR16] = [R8, R16].map(({ prefix }) => stack.edge(GRAFT, `bench/${prefix}`)) as [
      Target,
      Target,
    ];
    const all = [edge, vllm, llamaR8];
    const sixteen = { requests: AT_ONCE, tokens: TOKENS };
    const scenarios: readonly Scenario[] = [
      { name: 'base', wave: { ...sixteen, adapters: 0 }, systems: all, turns, waves },
      { name: 'r8', wave: { ...sixteen, adapters: AT_ONCE }, systems: all, turns, waves },
      { name: 'r16', wave: { ...sixteen, adapters: AT_ONCE }, systems: [edgeR16, llamaR16], turns, waves },
      {
        name: 'r8-64',
        wave: { requests: MANY, adapters: MANY, tokens: TOKENS },
        systems: all,
        // Of llama.cpp one takes a minute.
        turns: Math.max(1, turns >> 1),
        waves: 1,
      },
      {
        name: 'long16',
        wave: { ...sixteen, adapters: AT_ONCE, words: LONG_WORDS },
        ...{ systems: all, turns: Math.max(1, turns >> 1), waves: 1 },
      },
      {
        name: 'chat',
        wave: { ...sixteen, adapters: AT_ONCE, words: TURN_WORDS, turns: CHAT_TURNS },
        ...{ systems: all, turns: Math.max(1, turns >> 1), waves: 1 },
      },
    ];
    const measured: Pick<Comparison, 'waves' | 'ratios'> = { waves: [], ratios: [] };
    const onWave = (name: string) => (system: string, result: WaveResult) =>
      note(
        `${name} ${system}: ${result.tokensPerSecond.toFixed(0)} tok/s${result.problems[0] === undefined ? '' : ` PROBLEM ${result.problems[0]}`}`,
      );
    const run = async ({ name, wave, systems, turns: count, waves: each }: Scenario) => {
      const taken = await takeTurns({
        ...{
          systems,
          wave,
          waves: each,
          turns: count,
          warm: 'first',
          whenIdle: true,
          signal,
          onWave: onWave(name),
        },
      });
      for (const system of systems)
        measured.waves.push(summarize(name, system.label, (taken.get(system) ?? []).flat()));
      const [graft, ...others] = systems;
      for (const peer of others)
        measured.ratios.push(
          ...ratiosByTurn(name, [peer, graft!], taken).map((ratio) => ({ ...ratio, peer: peer.label })),
        );
    };
    for (const scenario of scenarios) if (only.includes(scenario.name)) await run(scenario);
    const row = (scenario: Compared) =>
      measured.waves.find((wave) => wave.scenario === scenario && wave.system === GRAFT)!;
    const measureMany = async (): Promise<Comparison['many']> => {
      const firsts: number[] = [];
      for (let round = 0; round < 3; round++) {
        const wave = await runWave(edge, { requests: MANY, adapters: MANY, tokens: 1 }, 500 + round);
        firsts.push(Math.max(...wave.ttftMs));
      }
      return { worstTtftMs: row('r8-64').ttftMs.worst, prefillAloneMs: median(firsts) };
    };
    const measureOne = async (): Promise<Comparison['lonely']> => {
      const before = await runLlamaBench(peers.llamaBench, peers.gguf);
      await run({
        ...{ name: 'one', wave: { requests: 1, adapters: 0, tokens: TOKENS } },
        ...{ systems: all, turns, waves: 2 * waves },
      });
      const after = await runLlamaBench(peers.llamaBench, peers.gguf);
      return { llamaBench: [before, after], graft: row('one').decodePerSecond };
    };
    const many = only.includes('r8-64') ? await measureMany() : null;
    const lonely = only.includes('one') ? await measureOne() : null;
    return { ...measured, lonely, many };
  } finally {
    for (const server of servers) await server.stop();
    await stack.stop();
  }
}
