import { defineCommand } from 'citty';
import { USAGE_COUNTS, USAGE_GROUPS, usageCsv, type UsageReport } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput, plainTable } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft usage', does: 'tokens of the last thirty days, key by key' },
    { line: 'graft usage --by name --from 2026-01-01 --to 2026-02-01', does: 'January, name by name' },
  ],
};

export default defineCommand({
  meta: { name: 'usage' },
  args: {
    by: {
      type: 'string',
      description: `One line a ${USAGE_GROUPS.join(', ')}`,
      valueHint: 'what',
      default: 'key',
    },
    from: { type: 'string', description: 'First day or time, UTC: 2026-01-31', valueHint: 'time' },
    to: { type: 'string', description: 'First day or time that does not count any more', valueHint: 'time' },
    tenant: { type: 'string', description: 'Only this tenant', valueHint: 'tenant' },
    csv: { type: 'boolean', description: 'Print comma-separated values' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const by = USAGE_GROUPS.find((one) => one === args.by);
    if (by === undefined) throw usageError(`--by ${args.by} is none of ${USAGE_GROUPS.join(', ')}.`);
    if (args.csv === true && output.json) throw usageError('Give --csv or --json, not both.');
    const client = await adminClient();
    const { from, to, tenant } = args;
    const query = { by, from, to, tenant };
    const usage = await callOperation(client, 'read the usage', 'GET /admin/usage', { query });
    const labels = usage.by === 'key' && usage.rows.length > 0 ? await keyLabels(client) : new Map();
    if (args.csv === true) process.stdout.write(usageCsv(usage, labels));
    else output.result(usage, () => usageText(usage, labels));
    if (usage.truncated) output.note('There are more lines: ask for a shorter time or one tenant.');
  },
});

/** @returns key id -> label. */
async function keyLabels(client: ApiClient): Promise<ReadonlyMap<string, string>> {
  const { keys } = await callOperation(client, 'list the keys', 'GET /admin/keys', {});
  return new Map(keys.map(({ id, label }) => [id, label]));
}

/** Four digits: a request of a small base costs less than a cent. */
const money = (value: number): string => value.toFixed(4);

function usageText(
  { by, from, to, rows, currency }: UsageReport,
  labels: ReadonlyMap<string, string>,
): string {
  const time = `${from.slice(0, 16)}Z to ${to.slice(0, 16)}Z`;
  if (rows.length === 0) return `nothing was used from ${time}`;
  const withLabel = by === 'key';
  const total = USAGE_COUNTS.map((count) => rows.reduce((sum, row) => sum + row[count], 0));
  const numbers = (values: readonly number[]): string[] => values.map((value) => String(value));
  const table = plainTable(
    [
      by.toUpperCase(),
      ...(withLabel ? ['LABEL'] : []),
      'REQUESTS',
      'ERRORS',
      'PROMPT',
      'COMPLETION',
      'TOKENS',
      ...(currency === undefined ? [] : [currency]),
    ],
    [
      ...rows.map((row) => [
        row.group,
        ...(withLabel ? [labels.get(row.group) ?? ''] : []),
        ...numbers(USAGE_COUNTS.map((count) => row[count])),
        ...(currency === undefined ? [] : [money(row.cost ?? 0)]),
      ]),
      ...(rows.length > 1
        ? [
            [
              'total',
              ...(withLabel ? [''] : []),
              ...numbers(total),
              ...(currency === undefined ? [] : [money(rows.reduce((sum, { cost = 0 }) => sum + cost, 0))]),
            ],
          ]
        : []),
    ],
  );
  return `${table}\n\n${time}`;
}
