/**
 * Statements that may join names with different first segments, each with its reason: with the names spread over
 * several databases by their first segment, these are what would have to change (docs/internals/kv-and-d1.md).
 */
import type { Asked } from './recording-database.ts';

export const ACROSS_SEGMENTS: readonly { why: string; of: RegExp }[] = [
  // Each database answers for itself, and the answers are put together.
  { why: 'Whether anything is there, for a restore.', of: /^SELECT 1 AS found WHERE EXISTS/ },
  { why: 'A page of names, with their experiments.', of: /^SELECT v\.name, .* FROM names n\b.* LIMIT \?/ },
  {
    why: 'A page of what was removed in the last days.',
    of: /INDEXED BY versions_removed_by_name/,
  },
  {
    why: 'A page of what was removed long ago, for good.',
    of: /^DELETE .* WHERE removed_at > 0 AND removed_at < \?/,
  },
  { why: 'A page of rows whose secret has changed.', of: /WHERE r\.secret IN/ },
  { why: 'The experiments whose turn it is.', of: /INDEXED BY experiments_in_turn/ },
  { why: 'How much a tenant keeps in evaluations, altogether.', of: /^INSERT INTO evaluations / },
  { why: 'How many pins there are; few, so they stay in the first database.', of: /^INSERT INTO pins / },
  { why: 'A page of a tenant’s history, which it erases.', of: /^DELETE FROM history WHERE id IN/ },

  {
    why: 'The webhooks of one tenant and of the operator; no message of theirs is of a name.',
    of: / FROM webhooks w /,
  },

  // Of one first segment after all, which the text does not show.
  { why: 'Names above and below one.', of: /FROM rooms WHERE name = \? OR name IN/ },
  { why: 'What is removed or restored together lies below one name.', of: /json_each\(\?1?\) (item|pin)\b/ },
  { why: 'What is removed together lies below one name.', of: /^UPDATE names SET removed_at = \?2/ },
  { why: 'Rows of one evaluation.', of: /^INSERT INTO evaluation_rows / },
  { why: 'Scores of one name’s evaluations.', of: /s\.chain_id IN \(SELECT value FROM json_each/ },
  { why: 'The change that was just made, in the same transaction.', of: /\(SELECT MAX\(id\) FROM history\)/ },

  // Of others' names: written later, as stale_pointers is, and checked when a version is published.
  { why: 'Parents of a chain may be another segment’s.', of: /json_each\((\?|v\.chain)\) below/ },
  { why: 'Whatever is built on a version may be another segment’s.', of: /chain_members m / },
  {
    why: 'A score’s chain may be of a name elsewhere.',
    of: /^DELETE FROM evaluation_scores WHERE name = \?1/,
  },
  { why: 'An alias may stand for any name of its owner.', of: /c\.name = \? AND c\.sequence = \?/ },
  { why: 'A page of names, with what their aliases stand for.', of: /t\.name = COALESCE/ },
  {
    why: 'Variants of an experiment may be versions of any name of its owner.',
    of: /wanted|experiment_versions/,
  },

  // An erasure first lists what it erases, then does it database by database.
  { why: 'What an erasure erases.', of: /erasure_items/ },
  { why: 'What an erasure erases, a page of names.', of: /^DELETE .* json_each\(\?1\)/ },
];

/** Tables whose rows belong to one name, and so to its first segment. */
const OF_NAMES = new Set([
  ...['names', 'versions', 'history', 'chain_members', 'stale_pointers', 'rooms', 'pins', 'drops'],
  ...['evaluations', 'evaluation_rows', 'evaluation_scores'],
  ...['experiments', 'experiment_versions', 'experiment_looks', 'webhook_messages'],
]);
/** Of one experiment, which is on one name. */
const OF_ONE_EXPERIMENT =
  /^SEARCH \S+ USING (PRIMARY KEY|COVERING INDEX \w+_by_experiment) \((id|experiment)=\?/;

const firstSegment = (name: string): string => name.split('/', 1)[0] ?? name;

const AFTER_TABLE = 'SET|WHERE|ON|ORDER|JOIN|LEFT|CROSS|GROUP|LIMIT|VALUES|SELECT|INDEXED|UNION';
const MENTION = new RegExp(
  `\\b(?:FROM|JOIN|INTO|UPDATE(?: OR \\w+)?|,) "?(\\w+)"?(?: (?:AS )?(?!(?:${AFTER_TABLE})\\b)(\\w+))?`,
  'g',
);

/**
 * By the text and by SQLite's plan; it rather finds too much.
 * @param asked with single spaces. @param plan details of EXPLAIN QUERY PLAN. @param known every name there is.
 * @returns what may lead from one first segment to another; empty = nothing can.
 */
export function segmentsJoined(
  { sql, values }: Pick<Asked, 'sql' | 'values'>,
  plan: readonly string[],
  known: ReadonlySet<string>,
): string[] {
  const mentioned = [...sql.matchAll(MENTION)].filter(([, table = '']) => OF_NAMES.has(table));
  // Who asks one table alone asks each database, and puts the answers together.
  if (mentioned.length < 2) return [];
  const called = new Set(mentioned.flatMap(([, table = '', alias = table]) => [table, alias]));
  const found: string[] = [];
  for (const step of plan) {
    const table = /^(?:SEARCH|SCAN) (\S+)/.exec(step)?.[1];
    if (table === undefined) continue;
    if (step.includes('VIRTUAL TABLE')) found.push('names from a list');
    else if (called.has(table) && !/[( ]name=\?/.test(step) && !OF_ONE_EXPERIMENT.test(step))
      found.push(step);
  }
  // `name = ?` and `a.name = b.name` stay with one name; what else a name is compared with may be another's.
  for (const [, left = '', right = ''] of sql.matchAll(/([\w.]+) = ([\w.]+|\?\d*)/g)) {
    const sides = [left, right].map((side) => side.split('.').at(-1) ?? '');
    const other = sides.find((side) => side !== 'name') ?? '?';
    if (sides.includes('name') && !other.startsWith('?')) found.push(`${left} = ${right}`);
  }
  if (/\bname IN \(/.test(sql)) found.push('names from a list');
  const segments = new Set(
    values.flatMap((value) => (typeof value === 'string' && known.has(value) ? [firstSegment(value)] : [])),
  );
  if (segments.size > 1) found.push(`names of ${[...segments].join(' and ')}`);
  return [...new Set(found)];
}
