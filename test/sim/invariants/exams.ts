/** Kept evaluations: their rows are what was sent, and what is scored is what the chain answers. */
import type { EvaluationScore } from '../../../protocol/admin-api/evaluations.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { ExamRow } from '../exams.ts';
import { committed } from '../operations/operation.ts';
import type { Simulation } from '../simulation.ts';
import { chainIdOf } from '../world/played-training.ts';
import { SCORED_ROWS } from '../world/programs.ts';

type Chain = readonly ChainEntry[];

/** Rows of their first, exactly answered or not, and the logarithm of the likelihood of all expected tokens. */
function scoreOf(
  sim: Simulation,
  rows: readonly ExamRow[],
  chain: Chain,
): { exact: string; nats: number; tokens: number } {
  const sum = { exact: '', nats: 0, tokens: 0 };
  for (const { user: content, expected } of rows) {
    const { exact, nats, tokens } = sim.oracle.score({ content, expected, chain });
    sum.exact += exact ? '1' : '0';
    sum.nats += nats;
    sum.tokens += tokens;
  }
  return sum;
}

/** Logits are 32 bits wide. */
const isNear = (one: number, other: number): boolean =>
  Math.abs(one - other) <= 1e-4 * Math.max(1, Math.abs(other));

/** @param chains one of which was scored. @returns what is wrong, or null. */
export function wrongScore(
  sim: Simulation,
  { name, score, chains }: { name: string; score: EvaluationScore; chains: readonly Chain[] },
): string | null {
  const rows = sim.exams.of(name, score.label).sent.get(score.sha256);
  if (rows === undefined) return `nobody has sent ${score.sha256}`;
  if (score.rows !== rows.length || score.scored > rows.length)
    return `${rows.length} rows were sent, of ${score.rows} are ${score.scored} scored`;
  const right = chains.map((chain) => scoreOf(sim, rows.slice(0, score.scored), chain));
  const isRight = right.some(({ exact, nats, tokens }) => {
    const missed = [...exact].flatMap((one, at) => (one === '0' ? [at + 1] : []));
    return (
      JSON.stringify(score.missed) === JSON.stringify(missed) &&
      score.exact === exact.length - missed.length &&
      (score.mean_nll === null ? tokens === 0 : isNear(score.mean_nll, nats / tokens))
    );
  });
  return isRight ? null : `${JSON.stringify(score)} instead of ${JSON.stringify(right)}`;
}

interface ScoreRow {
  name: string;
  sha256: string;
  chain_id: string;
  exact: string;
  nats: number;
  tokens: number;
}

/** At rest: each is whole, belongs to its name's owner, and nothing of others is left. */
export async function checkExams(sim: Simulation): Promise<void> {
  const wrong = (what: string): void => sim.fail('what is kept of evaluations is what was sent', what);
  const kept = await committed<{
    name: string;
    label: string;
    tenant: string;
    owner: string | null;
    sha256: string;
  }>(
    sim,
    'SELECT e.name, e.label, e.tenant, e.sha256, n.owner FROM evaluations e LEFT JOIN names n ON n.name = e.name',
  );
  const parts = new Set<string>();
  for (const { name, label, tenant, owner, sha256: digest } of kept) {
    const rows = sim.exams.of(name, label).sent.get(digest);
    if (rows === undefined) wrong(`${label} of ${name} is ${digest}, which nobody has sent`);
    if (tenant !== owner) wrong(`${label} of ${name} is ${tenant}'s, the name is ${owner}'s`);
    for (let first = 0; first < (rows?.length ?? 0); first += SCORED_ROWS)
      parts.add(`${name} ${label} ${first}`);
  }
  const stored = await committed<{ name: string; label: string; first: number }>(
    sim,
    'SELECT name, label, first FROM evaluation_rows',
  );
  for (const { name, label, first } of stored)
    if (!parts.delete(`${name} ${label} ${first}`))
      wrong(`rows of ${label} of ${name} from ${first} are left`);
  for (const part of parts) wrong(`there are no rows of ${part}`);
  const chains = new Map(sim.truth.allChains().map((chain): [string, Chain] => [chainIdOf(chain), chain]));
  for (const row of await committed<ScoreRow>(sim, 'SELECT * FROM evaluation_scores')) {
    const of = kept.find(({ name, sha256: digest }) => name === row.name && digest === row.sha256);
    if (of === undefined) {
      wrong(`a score of ${row.name} is left, of rows that it does not have`);
      continue;
    }
    const chain = chains.get(row.chain_id);
    const rows = sim.exams.of(of.name, of.label).sent.get(of.sha256) ?? [];
    // Of a file that has become no version.
    if (chain === undefined) continue;
    const right = scoreOf(sim, rows.slice(0, row.exact.length), chain);
    if (right.exact !== row.exact || right.tokens !== row.tokens || !isNear(row.nats, right.nats))
      wrong(`${JSON.stringify(row)} instead of ${JSON.stringify(right)}`);
  }
}
