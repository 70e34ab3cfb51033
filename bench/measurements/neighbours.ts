import { z } from 'zod';
import { createApiClient } from '../../cli/api-client.ts';
import { needKey, needUrl, readConnection } from '../../cli/connection.ts';
import { NewKey } from '../../protocol/admin-api/keys.ts';
import { ABUSIVE, FAIR, keepAsking, type Neighbour } from '../load/neighbours.ts';
import { benchPrompt } from '../load/prompts.ts';
import { streamChat, type Tenant } from '../load/stream-chat.ts';
import { quantile } from '../statistics.ts';

export interface NeighbourRow {
  neighbour: string;
  /** Of the measured tenant. */
  requests: number;
  ttftMs: { p50: number; p99: number };
  /** To those beside the fair neighbour. */
  ratio: { p50: number; p99: number };
  /** What became of the neighbour's requests. */
  theirs: Record<string, number>;
  problems: string[];
}

/** The measured tenant's answers, tokens: few, so that many of them can be had in a short time. */
const TOKENS = 8;
/** After a refusal, ms. */
const PAUSE_MS = 1_000;
/** A request that has no token by then counts as so long, ms: no neighbour may stop the measurement. */
const LONGEST_MS = 20_000;

/**
 * Times of one measurement, ms: full, and short to see that it works. The rest is longer than a stream's heartbeat:
 * workerd on this machine finds out with it that a client has gone. Ten of them take seven minutes.
 */
const PACES = {
  full: { settle: 3_000, measure: 25_000, rest: 12_000 },
  short: { settle: 500, measure: 2_000, rest: 500 },
} as const;
export type Pace = keyof typeof PACES;

const pause = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/**
 * Time to the first token of one tenant that asks one thing after the other, beside another tenant's load.
 * Runs against the edge of GRAFT_URL, or of `graft dev` in this folder; makes two tenants' keys there and revokes them.
 */
export async function measureNeighbours(params: {
  pace: Pace;
  /** Only neighbours with this in their names. */
  only: string;
  signal: AbortSignal;
  onRow: (row: NeighbourRow) => void;
}): Promise<NeighbourRow[]> {
  const connection = await readConnection({ env: process.env, folder: process.cwd() });
  const admin = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
  const ids: string[] = [];
  const post = (what: string, path: string, body: object) =>
    admin.send(what, path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const tenant = async (name: string): Promise<Tenant> => {
    const made = await post('making a key', '/admin/keys', { tenant: name, label: 'bench' });
    const { id, key } = NewKey.extend({ key: z.string() }).parse(await made.json());
    ids.push(id);
    return { url: admin.url, key };
  };
  try {
    const [alice, bob] = [await tenant('bench-alice'), await tenant('bench-bob')];
    const rows: NeighbourRow[] = [];
    for (const neighbour of [FAIR, ...ABUSIVE.filter(({ name }) => name.includes(params.only))]) {
      params.signal.throwIfAborted();
      const row = await beside(neighbour, { alice, bob, pace: PACES[params.pace], fair: rows[0] ?? null });
      rows.push(row);
      params.onRow(row);
    }
    return rows;
  } finally {
    for (const id of ids) await admin.send('revoking a key', `/admin/keys/${id}`, { method: 'DELETE' });
  }
}

async function beside(
  neighbour: Neighbour,
  run: { alice: Tenant; bob: Tenant; pace: (typeof PACES)[Pace]; fair: NeighbourRow | null },
): Promise<NeighbourRow> {
  const { pace, fair } = run;
  const over = new AbortController();
  const load = keepAsking(run.alice, neighbour, over.signal);
  await pause(pace.settle);
  const until = performance.now() + pace.measure;
  const times: number[] = [];
  const problems: string[] = [];
  while (performance.now() < until) {
    const body = {
      ...{ model: 'base', stream: true, temperature: 0, ignore_eos: true, max_tokens: TOKENS },
      messages: [{ role: 'user', content: benchPrompt(times.length, 9, 8) }],
    };
    const result = await streamChat(run.bob, body, AbortSignal.timeout(LONGEST_MS));
    times.push(Number.isNaN(result.firstMs) ? LONGEST_MS : result.firstMs);
    if (result.problem !== null) problems.push(result.problem);
    // Who is refused does not ask again at once.
    if (result.status !== 200) await pause(PAUSE_MS);
  }
  over.abort();
  const theirs = Object.fromEntries(await load);
  await pause(pace.rest);
  const ttftMs = { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
  const base = fair?.ttftMs ?? ttftMs;
  return {
    neighbour: neighbour.name,
    requests: times.length,
    ttftMs,
    ratio: { p50: ttftMs.p50 / base.p50, p99: ttftMs.p99 / base.p99 },
    theirs,
    problems,
  };
}
