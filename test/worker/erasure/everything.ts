/** All that an edge keeps, as text: what was erased must be nowhere in it. */
import { createDoGatherers } from '../../../worker/gathering/gatherer-object.ts';
import type { Gatherers } from '../../../worker/gathering/ports.ts';
import { HANG_MS } from '../../setup/slow.ts';
import type { TestEdge } from '../edge-harness.ts';

export const gatherersOf = async ({ edge }: TestEdge): Promise<Gatherers> =>
  createDoGatherers({
    namespace: (await edge.miniflare.getDurableObjectNamespace('GATHERERS')) as never,
    ...{ timeoutMs: HANG_MS, writeTimeoutMs: HANG_MS },
  });

/** Lines `place: text`. KV's parts are told by their keys alone. */
export async function everything(graft: TestEdge, r2 = false): Promise<string[]> {
  const { edge } = graft;
  const lines: string[] = [];
  const gatherers = await gatherersOf(graft);
  for (const { requests } of await gatherers.requests({ tenant: null, limit: 1_000 }))
    lines.push(...requests.map((request) => `gatherers requests: ${JSON.stringify(request)}`));
  for (const binding of new Set(['DB', graft.usageBinding])) {
    const db = await edge.miniflare.getD1Database(binding);
    const { results: tables } = await db
      .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '%\\_%cf%' ESCAPE '\\'")
      .all<{ name: string }>();
    for (const { name } of tables) {
      const { results } = await db.prepare(`SELECT * FROM "${name}"`).all();
      lines.push(...results.map((row) => `D1 ${name}: ${JSON.stringify(row)}`));
    }
  }
  const kv = await edge.miniflare.getKVNamespace('ADAPTERS');
  for (const { name, expiration } of (await kv.list()).keys) {
    const isPart = /^blob:[0-9a-f]{64}:/.test(name);
    const value = isPart ? '' : ((await kv.get(name)) ?? '').split('\n').at(-1);
    lines.push(`KV ${name}: ${value}${expiration === undefined ? '' : ' (ends)'}`);
  }
  if (!r2) return lines;
  const bucket = await edge.miniflare.getR2Bucket('BLOBS');
  return [...lines, ...(await bucket.list()).objects.map(({ key }) => `R2 ${key}`)];
}

/** @returns lines that say one of these. A client's list of requests has what it asked for in vain: its own words. */
export const saying = (lines: readonly string[], words: readonly string[]): string[] =>
  lines.filter((line) =>
    words.some((word) => line.replaceAll(/unknown_name\\?":\\?"[^"\\]*/g, '').includes(word)),
  );
