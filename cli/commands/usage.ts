/** Usage, and the latest requests one by one. */
import type { KeptPrompt } from '../../protocol/admin-api/prompts.ts';
import {
  joinUsage,
  USAGE_COUNTS,
  USAGE_GROUPS,
  type UsageGroup,
  usageCsv,
  type UsageReport,
} from '../../protocol/admin-api/tenants.ts';
import { MAX_KEPT_REQUESTS, type RequestList, type RequestView } from '../../protocol/admin-api/traffic.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';
import { type Output, plainTable, when, stripControlChars } from '../output.ts';

export const usageCommand = command({
  verb: 'usage',
  examples: [
    { line: 'graft usage', does: 'tokens of the last thirty days, key by key' },
    { line: 'graft usage --by name --from 2026-01-01 --to 2026-02-01', does: 'January, name by name' },
  ],
  args: {
    by: {
      type: 'string',
      description: `Group by ${USAGE_GROUPS.join(', ')}`,
      valueHint: 'what',
      default: 'key',
    },
    from: { type: 'string', description: 'First day or time, UTC: 2026-01-31', valueHint: 'time' },
    to: { type: 'string', description: 'First day or time that no longer counts', valueHint: 'time' },
    tenant: { type: 'string', description: 'Only this tenant', valueHint: 'tenant' },
    csv: { type: 'boolean', description: 'Print comma-separated values' },
  },
  async run({ args, output }) {
    const by = USAGE_GROUPS.find((one) => one === args.by);
    if (by === undefined) throw usageError(`--by ${args.by} is not one of ${USAGE_GROUPS.join(', ')}.`);
    if (args.csv === true && output.json) throw usageError('Give --csv or --json, not both.');
    const client = await adminClient();
    const { from, to, tenant } = args;
    const usage = await readUsage(client, output, { by, from, to, tenant });
    const labels = usage.by === 'key' && usage.rows.length > 0 ? await keyLabels(client) : new Map();
    if (args.csv === true) process.stdout.write(usageCsv(usage, labels));
    else output.result(usage, () => usageText(usage, labels));
  },
});

/** All pages of a report; with thousands of tenants there may be hundreds. */
async function readUsage(
  client: ApiClient,
  output: Output,
  query: { by: UsageGroup; from?: string | undefined; to?: string | undefined; tenant?: string | undefined },
): Promise<UsageReport> {
  const progress = output.progress('usage', 'pages');
  let read = 0;
  try {
    const pages = await callPages(client, 'read the usage', 'GET /admin/usage', query, (page) => {
      read += 1;
      if (page.cursor !== null) progress.update(read, null);
      return [page];
    });
    return joinUsage(pages);
  } finally {
    progress.end();
  }
}

/** @returns key id -> label. */
async function keyLabels(client: ApiClient): Promise<ReadonlyMap<string, string>> {
  const keys = await callPages(client, 'list the keys', 'GET /admin/keys', {}, (page) => page.keys);
  return new Map(keys.map(({ id, label }) => [id, label]));
}

/** Four digits: a request of a small base costs less than a cent. */
const money = (value: number): string => value.toFixed(4);

function usageText(
  { by, from, to, rows, currency }: UsageReport,
  labels: ReadonlyMap<string, string>,
): string {
  const time = `${from.slice(0, 16)}Z to ${to.slice(0, 16)}Z`;
  if (rows.length === 0) return `no usage from ${time}`;
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

export const requestsCommand = command({
  verb: 'requests',
  examples: [
    { line: 'graft requests', does: 'the last twenty, newest first' },
    { line: 'graft requests --status failed --limit 100', does: 'what went wrong' },
  ],
  args: {
    name: {
      type: 'string',
      description: 'Only this published name; `base` for the base model',
      valueHint: 'name',
    },
    status: {
      type: 'string',
      description: 'Only ok, failed, left, 4xx, 5xx, or a status such as 429',
      valueHint: 'status',
    },
    variant: { type: 'string', description: 'Only this variant of an experiment', valueHint: 'variant' },
    key: { type: 'string', description: 'Only this key, by its id', valueHint: 'id' },
    id: {
      type: 'string',
      description: 'Only the request with this id, or the requests with this `x-request-id`',
      valueHint: 'id',
    },
    show: {
      type: 'string',
      description: 'Prompt and answer of the request with this id, if they are kept',
      valueHint: 'id',
    },
    tenant: { type: 'string', description: 'Only of this tenant', valueHint: 'tenant' },
    limit: { type: 'string', description: 'Maximum number of requests', valueHint: 'count', default: '20' },
  },
  async run({ args, output }) {
    const { name, status, variant, key, id, show, tenant, limit } = args;
    if (show !== undefined) {
      const list = [name, status, variant, key, id, tenant];
      if (list.some((filter) => filter !== undefined))
        throw usageError('--show reads one request, by its id; remove the filters.');
      const call = { params: { id: show } };
      const kept = await callOperation(
        await adminClient(),
        `show ${show}`,
        'GET /admin/requests/:id/prompt',
        call,
      );
      return output.result(kept, () => keptText(kept));
    }
    if (!/^[1-9]\d*$/.test(limit) || Number(limit) > MAX_KEPT_REQUESTS)
      throw usageError(`--limit ${limit} is not a whole number up to ${MAX_KEPT_REQUESTS}.`);
    const query = { name, status, variant, key, id, tenant, limit };
    const list = await callOperation(await adminClient(), 'list the requests', 'GET /admin/requests', {
      query,
    });
    output.result(list, () => requestsText(list));
    if (list.truncated) output.note(`There are more requests: --limit takes up to ${MAX_KEPT_REQUESTS}.`);
    if (list.left_out > 0)
      output.note(`${list.left_out} requests of busy moments are missing from the list.`);
  },
});

/** Text of models and users goes to a terminal, which must not interpret it. */
export function keptText(kept: KeptPrompt): string {
  const { id, at, tenant, key_id: key, name, expires_at: end, answers } = kept;
  const said = (of: string, text: string): string =>
    `${of}\n${stripControlChars(text).replaceAll(/^/gm, '  ')}`;
  return [
    `${id}: ${name || 'no adapter'}, ended ${when(at)}, by ${key} of ${tenant}; deleted ${when(end)}`,
    ...(kept.prompt_cut ? ['[the prompt was longer; these are its last messages]'] : []),
    ...kept.prompt.map(({ role, text }) => said(role, text)),
    ...(answers ?? []).map((text, i) => said(answers?.length === 1 ? 'answer' : `answer ${i + 1}`, text)),
    ...(kept.answers_cut
      ? [answers === null ? '[the answer was too long to keep]' : '[the answer was longer]']
      : answers === null
        ? ['[no answer]']
        : []),
  ].join('\n');
}

export function requestsText({ requests }: RequestList): string {
  if (requests.length === 0) return 'no such request is kept';
  return plainTable(
    ['ENDED', 'STATUS', 'NAME', 'TTFT', 'MS', 'PROMPT', 'COMPLETION', 'ID', 'WAITED'],
    requests.map((request) => [
      new Date(request.at).toISOString().slice(0, 19).replace('T', ' '),
      request.code === '' ? String(request.status) : `${request.status} ${request.code}`,
      nameOf(request),
      request.ttft_ms === null ? '-' : String(request.ttft_ms),
      String(request.duration_ms),
      String(request.prompt_tokens),
      String(request.completion_tokens),
      request.id,
      request.phases.map(({ name, ms }) => `${name} ${ms}`).join(', '),
    ]),
  );
}

const nameOf = ({ name, version, variant, unknown_name: unknown }: RequestView): string => {
  if (unknown !== undefined) return `unknown: ${stripControlChars(unknown)}`;
  const served = version === 0 ? name || '-' : `${name}@${version}`;
  return variant === '' ? served : `${served} (${variant})`;
};
