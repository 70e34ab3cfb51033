import { parseArgs } from 'node:util';
import { parsePeer, type Target } from './load/target.ts';

export const SCENARIOS = ['base', 'r8', 'r16', 'one', 'r8-64', 'long16', 'chat', 'swaps', 'edge'] as const;
export type Scenario = (typeof SCENARIOS)[number];

export interface BenchOptions {
  scenarios: readonly Scenario[];
  /** Servers that are running already, with 16 rank-8 q,v adapters. */
  peers: readonly Target[];
  /** The same with 16 rank-16 adapters on all linears. */
  peersR16: readonly Target[];
  base: string | undefined;
  waves: number;
  swaps: number;
  pairs: number;
  port: number;
  /** Further flags for the origin. */
  originArgs: readonly string[];
}

export const USAGE = `npm run bench -- [flags]
bench/compare.sh                        graft beside vLLM and llama.cpp (--help says more)
npm run bench -- activated              first tokens behind one system prompt, with activated adapters (--help says more)
npm run bench -- cliffs                 few in memory, cold ones, long prompts, wide ranks, hours (--help says more)
npm run bench -- gather                 what 1,000 isolates count, on its way to D1, in virtual time
npm run bench -- hostile                what requests made to be expensive cost an origin and others (--help says more)
npm run bench -- job                    gaps between tokens while a fine-tuning job trains beside them (--help says more)
npm run bench -- keys-values            int8 keys and values beside float32 ones: attention, steps and chunks (--help says more)
npm run bench -- names                  operations with ten thousand names and with a million (--help says more)
npm run bench -- neighbours [--short]   what one tenant does to another's time to the first token (--help says more)
npm run bench -- profile                what a wave's time goes into (--help says more)
npm run bench -- proxies --litellm FILE  requests a second beside LiteLLM's proxy (--help says more)
npm run bench -- train                  a training step's time and memory, and losses, beside PEFT (--help says more)
npm run bench -- vllm --url URL --base FOLDER   what graft adds to a vLLM that runs (--help says more)
npm run bench -- walk                   the files that one chat completion enters (--help says more)
  --only a,b           scenarios: ${SCENARIOS.join(', ')} (default: all)
  --peer SPEC          a server to compare with, running already, loaded with 16 rank-8 adapters on q and v:
                       NAME=openai:PORT[:PREFIX[:BASE]] (adapter i is PREFIXi) or NAME=llama:PORT; may be repeated
  --peer-r16 SPEC      the same, loaded with 16 rank-16 adapters on all linears
  --base PATH          base model of our origin (default: the pinned one, from the cache)
  --waves N            counted waves a turn, two turns each, and rounds of long16's parts (default 3)
  --swaps N            adapter swaps (default 1000)
  --pairs N            pairs of requests for the edge's overhead (default 200)
  --port N             our origin's port (default: any free one)
  --origin-arg ARG     passed to the origin; may be repeated`;

/** @throws Error that names the flag. */
export function parseOptions(argv: readonly string[]): BenchOptions | 'help' {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: SCENARIOS.join(',') },
      peer: { type: 'string', multiple: true, default: [] },
      'peer-r16': { type: 'string', multiple: true, default: [] },
      base: { type: 'string' },
      waves: { type: 'string', default: '3' },
      swaps: { type: 'string', default: '1000' },
      pairs: { type: 'string', default: '200' },
      port: { type: 'string', default: '0' },
      'origin-arg': { type: 'string', multiple: true, default: [] },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return 'help';
  return {
    scenarios: values.only.split(',').map((name) => {
      const known = SCENARIOS.find((scenario) => scenario === name.trim());
      if (known === undefined)
        throw new Error(`--only: unknown scenario '${name}' (${SCENARIOS.join(', ')})`);
      return known;
    }),
    peers: values.peer.map((spec) => needPeer('--peer', spec)),
    peersR16: values['peer-r16'].map((spec) => needPeer('--peer-r16', spec)),
    base: values.base,
    waves: count('--waves', values.waves, 1),
    swaps: count('--swaps', values.swaps, 1),
    pairs: count('--pairs', values.pairs, 1),
    port: count('--port', values.port, 0),
    originArgs: values['origin-arg'],
  };
}

function needPeer(flag: string, spec: string): Target {
  const peer = parsePeer(spec);
  if (peer === null)
    throw new Error(`${flag} ${spec}: not NAME=openai:PORT[:PREFIX[:BASE]] or NAME=llama:PORT`);
  return peer;
}

function count(flag: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least)
    throw new Error(`${flag} ${text}: not a whole number from ${least}`);
  return value;
}
