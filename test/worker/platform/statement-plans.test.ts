/**
 * Every statement of every ledger is found by an index, or there is a reason why it reads few rows: with a million names
 * a scan takes the one database of all tenants for a minute. Plans depend on the schema alone, since D1 has no
 * statistics: so what the ledgers ask is collected on SQLite in this process, and explained by workerd's.
 */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createD1Stores } from '../../../worker/d1-stores.ts';
import { driveAll, undriven } from './drive-ledgers.ts';
import { openRealDatabase, startDatabases } from './real-database.ts';
import { recordStatements, slowStepsOf } from './recording-database.ts';
import { openSqlite } from './sqlite.ts';

interface Reason {
  why: string;
  /** Of the statement, with single spaces. */
  of: RegExp;
  step: RegExp;
}

const SORT = /TEMP B-TREE/;
const SCAN = /^SCAN/;
const ANY = /./;

const REASONS: readonly Reason[] = [
  {
    why: 'A page in the order of an index: its limit ends the scan.',
    of: /FROM "?\w+"? (k )?ORDER BY [\w", ]+ (DESC )?LIMIT \?\)*$/,
    step: SCAN,
  },
  {
    why: 'A page of an index that has nothing but what is looked for.',
    of: / LIMIT \?/,
    step: /USING INDEX (experiments_behind|experiments_in_turn|tenant_limits_unwritten)$/,
  },
  { why: 'Of the tables of the schema.', of: /FROM sqlite_master/, step: ANY },
  { why: 'One row.', of: /FROM schema_hash$/, step: SCAN },
  { why: 'Ends at the first row.', of: /^SELECT 1 AS found WHERE EXISTS/, step: SCAN },

  // Keys and grants
  {
    why: 'Counts all rows, table by table, at the end of a restore: nobody uses that server yet.',
    of: /^SELECT COUNT\(\*\) AS rows FROM "\w+"$/,
    step: SCAN,
  },
  {
    why: 'The first row of an index.',
    of: / AS mark$/,
    step: /^SCAN (sqlite_sequence|keys USING COVERING INDEX keys_(by_time|revoked))$/,
  },
  { why: 'Of one key’s rights.', of: /json_tree\(rights\)/, step: /FOR ORDER BY/ },
  { why: 'Of one key’s descendants.', of: /^WITH RECURSIVE line/, step: /FOR ORDER BY/ },
  { why: 'Of one owner’s grants.', of: /FROM grants WHERE scope IN .* AND owner IN/, step: SORT },
  {
    why: 'Of versions made from prompts, up to the first; only a grant of every name looks for them so.',
    of: /FROM versions WHERE CASE WHEN json_valid\(training\) .* \?1 IS NULL/,
    step: /USING INDEX versions_from_prompts/,
  },

  // Names
  {
    why: 'Of the names above one, at most eight, and of the owners of those below it.',
    of: /FROM rooms WHERE name = \? OR name IN/,
    step: SORT,
  },
  { why: 'Of the owners of the names below one.', of: /^SELECT DISTINCT owner FROM names/, step: SORT },
  {
    why: 'Of one name’s experiments.',
    of: /FROM experiments x WHERE x.name = n.name/,
    step: /FOR ORDER BY/,
  },
  {
    why: 'Of what is built on one version, or on what is removed; each is found by an index.',
    of: /chain_members m /,
    step: SORT,
  },
  {
    why: 'Of the experiments on what is removed.',
    of: /FROM experiments e WHERE e.status <> 'archived' AND e.id IN \( SELECT x.id FROM json_each/,
    step: /FOR ORDER BY/,
  },
  {
    why: 'Of a page of names with something removed, and the removed versions of each.',
    of: /INDEXED BY versions_removed_by_name/,
    step: SORT,
  },
  { why: 'Of one name’s changes.', of: /^SELECT \* FROM history WHERE name = \?/, step: /FOR ORDER BY/ },
  { why: 'At most so many pins as origins keep.', of: /FROM pins/, step: SCAN },
  { why: 'Of one name’s last drops.', of: /FROM drops WHERE name = \?/, step: SORT },
  { why: 'Of one file’s parts.', of: /CROSS JOIN json_each\(u.parts\) p/, step: SORT },

  // Experiments and jobs
  { why: 'Of one owner’s live experiments.', of: /FROM experiments o WHERE o.status IN/, step: SORT },
  { why: 'Of one version’s experiments.', of: /WHERE u.name = \? AND u.version = \?/, step: /FOR ORDER BY/ },
  { why: 'Of the looks that one seed keeps.', of: /^DELETE FROM experiment_looks/, step: /FOR ORDER BY/ },
  {
    why: 'Of jobs that have not ended, a few a tenant.',
    of: /FROM training_jobs( j)? WHERE finished_at IS NULL/,
    step: /USING INDEX training_jobs_open|FOR (ORDER BY|DISTINCT)/,
  },
  {
    why: 'Of jobs that an origin is still to delete.',
    of: /FROM training_deletions WHERE asked_at <=/,
    step: ANY,
  },

  { why: 'Of at most 500 due messages.', of: /FROM webhook_messages .* ORDER BY turn/, step: SORT },
  { why: 'At most as many origins as are configured.', of: /FROM origin_absences$/, step: SCAN },

  // What was used
  {
    why: 'Of the prompts that the tenants of one batch keep, a thousand each.',
    of: /^WITH tenants AS \(SELECT value AS tenant/,
    step: SORT,
  },
  { why: 'Of one origin’s minutes, at most a day of them.', of: /FROM origin_minutes/, step: SORT },
  { why: 'Sums of the rows of one batch, or of a tenant’s days.', of: /^INSERT INTO usage_days/, step: SORT },
  { why: 'A page of a report of usage.', of: /^WITH RECURSIVE tenants \(tenant, since\)/, step: ANY },
  {
    why: 'Traffic of one series, name or key.',
    of: /FROM traffic( INDEXED BY \w+)? WHERE step = \?/,
    step: SORT,
  },
  { why: 'Of the hours of one day, once.', of: /FROM traffic WHERE step = 3600/, step: SORT },

  // Erasures
  {
    why: 'Of erasures that have not ended.',
    of: /erasures (o|e)\b|FROM erasures/,
    step: /^SCAN (o|e|erasures)\b/,
  },
  { why: 'Of what one erasure erases.', of: /erasure_items|erasures/, step: SORT },
];

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

it('reads by an index, or few rows, whatever a ledger is asked', async () => {
  const { db, asked } = recordStatements(openSqlite());
  const ledgers = createD1Stores(db);
  expect(undriven(ledgers)).toEqual([]);
  expect(await driveAll(ledgers, asked)).toEqual([]);

  const statements = [...new Map(asked.map((one) => [one.sql.replaceAll(/\s+/g, ' ').trim(), one]))];
  const steps = await slowStepsOf(
    await openRealDatabase(miniflare),
    statements.map(([, one]) => one),
  );
  const used = new Set<Reason>();
  const unexplained = statements.flatMap(([sql], i) =>
    (steps[i] ?? []).flatMap((step) => {
      const reasons = REASONS.filter((reason) => reason.of.test(sql) && reason.step.test(step));
      for (const reason of reasons) used.add(reason);
      return reasons.length === 0 ? [{ sql, step }] : [];
    }),
  );
  expect(unexplained).toEqual([]);
  expect(REASONS.filter((reason) => !used.has(reason))).toEqual([]);
});
