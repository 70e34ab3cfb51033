import http from 'node:http';
import { setTimeout } from 'node:timers/promises';
import type { ChainEntry } from '../../protocol/identity.ts';
import { post } from '../load/post.ts';
import { benchPrompt } from '../load/prompts.ts';
import { signForOrigin, type SignedOrigin } from '../load/sign-for-origin.ts';
import { median, quantile } from '../statistics.ts';

export interface EdgeSummary {
  pairs: number;
  /** Whole request, ms. */
  edgeMs: { median: number; p99: number };
  originMs: { median: number; p99: number };
  /** Of the pairs' differences, ms. */
  overheadMs: { median: number; p99: number };
  problems: string[];
}

/** New tokens of each request. */
const TOKENS = 8;
/**
 * Pause before every timed request, ms. Compute that starts after a pause of a few milliseconds is slower than
 * back-to-back compute (measured here: a request straight to the origin takes 4 ms longer after 3 ms of sleep), and a
 * request through the edge always has such a pause; with it before both, the difference is the edge's own.
 */
const PAUSE_MS = 20;
const PATH = '/v1/completions';

/**
 * The same request through the edge and straight to its origin, one at a time, in alternating order, over connections
 * that are kept. The prompts of a pair are equal in length and differ, so that no prompt cache helps the second.
 */
export async function measureEdgeOverhead(params: {
  edge: { url: string; key: string; model: string };
  origin: SignedOrigin & { chain: readonly ChainEntry[] };
  pairs: number;
}): Promise<EdgeSummary> {
  const { edge, origin, pairs } = params;
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const problems = new Set<string>();
  const body = (index: number, model: string) => ({
    model,
    prompt: benchPrompt(index, 0),
    max_tokens: TOKENS,
    temperature: 0,
    ignore_eos: true,
  });
  const throughEdge = (index: number) =>
    timed(agent, edge.url, JSON.stringify(body(index, edge.model)), { authorization: `Bearer ${edge.key}` });
  const straight = async (index: number) => {
    const { text, headers } = await signForOrigin(origin, {
      ...{ path: PATH, request: body(index, edge.model), chain: origin.chain, model: edge.model },
      requestId: `bench-${index}`,
    });
    return timed(agent, origin.url, text, headers);
  };
  const edgeMs: number[] = [];
  const originMs: number[] = [];
  // The pair before the first loads the adapter, which only the edge can, and opens the connections.
  for (let pair = -1; pair < pairs; pair++) {
    const edgeFirst = pair < 0 || pair % 2 === 0;
    const first = edgeFirst ? await throughEdge(2 * pair + 2) : await straight(2 * pair + 2);
    const second = edgeFirst ? await straight(2 * pair + 3) : await throughEdge(2 * pair + 3);
    for (const { problem } of [first, second]) if (problem !== null) problems.add(problem);
    if (pair < 0) continue;
    edgeMs.push(edgeFirst ? first.ms : second.ms);
    originMs.push(edgeFirst ? second.ms : first.ms);
  }
  agent.destroy();
  const added = edgeMs.map((ms, index) => ms - (originMs[index] as number));
  return {
    pairs,
    edgeMs: { median: median(edgeMs), p99: quantile(edgeMs, 0.99) },
    originMs: { median: median(originMs), p99: quantile(originMs, 0.99) },
    overheadMs: { median: median(added), p99: quantile(added, 0.99) },
    problems: [...problems],
  };
}

async function timed(
  agent: http.Agent,
  url: string,
  body: string,
  headers: Record<string, string>,
): Promise<{ ms: number; problem: string | null }> {
  await setTimeout(PAUSE_MS);
  const start = performance.now();
  const problem = await post(agent, `${url}${PATH}`, body, headers);
  return { ms: performance.now() - start, problem };
}
