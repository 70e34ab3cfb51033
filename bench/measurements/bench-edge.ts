import path from 'node:path';
import { ROOT } from '../../cli/local/origin-process.ts';
import { startPublishedStack } from '../published-stack.ts';
import { measureEdgeOverhead, type EdgeSummary } from './edge-overhead.ts';

const NAME = 'bench/intent';

/** Starts the whole stack on free ports, publishes one real adapter, and compares the edge with its own origin. */
export async function benchEdge(params: {
  base: string;
  work: string;
  pairs: number;
  signal: AbortSignal;
}): Promise<EdgeSummary> {
  const running = await startPublishedStack({ ...params, originArgs: [] });
  try {
    await running.publish(NAME, path.join(ROOT, 'examples/adapters/intent-v2'));
    const { url, key } = running.stack.local;
    return await measureEdgeOverhead({
      edge: { url, key, model: NAME },
      origin: { ...running.signed, chain: running.chainOf(NAME) },
      pairs: params.pairs,
    });
  } finally {
    await running.stop();
  }
}
