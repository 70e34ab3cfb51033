import { defineCommand } from 'citty';
import {
  MAX_KEPT_REQUESTS,
  type KeptPrompt,
  type RequestList,
  type RequestView,
} from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';
import { harmless } from '../harmless-text.ts';
import { createOutput, plainTable, when } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft requests', does: 'the last twenty, newest first' },
    { line: 'graft requests --status failed --limit 100', does: 'what went wrong' },
  ],
};

export default defineCommand({
  meta: { name: 'requests' },
  args: {
    name: {
      type: 'string',
      description: 'Only of this name, as published; `base` for the base model',
      valueHint: 'name',
    },
    status: {
      type: 'string',
      description: 'Only ok, failed, left, 4xx, 5xx, or one such as 429',
      valueHint: 'status',
    },
    variant: { type: 'string', description: 'Only of this variant of an experiment', valueHint: 'variant' },
    key: { type: 'string', description: 'Only of this key, by its id', valueHint: 'id' },
    id: {
      type: 'string',
      description: 'Only the request with this id, or the requests with this `x-request-id`',
      valueHint: 'id',
    },
    show: {
      type: 'string',
      description: 'Prompt and answer of the request with this id, where they are kept',
      valueHint: 'id',
    },
    tenant: { type: 'string', description: 'Only of this tenant', valueHint: 'tenant' },
    limit: { type: 'string', description: 'At most so many requests', valueHint: 'count', default: '20' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const { name, status, variant, key, id, show, tenant, limit } = args;
    if (show !== undefined) {
      const list = [name, status, variant, key, id, tenant];
      if (list.some((filter) => filter !== undefined))
        throw usageError('--show reads one request, by its id; it takes no filters.');
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
      throw usageError(`--limit ${limit} is no whole number up to ${MAX_KEPT_REQUESTS}.`);
    const query = { name, status, variant, key, id, tenant, limit };
    const list = await callOperation(await adminClient(), 'list the requests', 'GET /admin/requests', {
      query,
    });
    output.result(list, () => requestsText(list));
    if (list.truncated) output.note(`There are more of these: --limit takes up to ${MAX_KEPT_REQUESTS}.`);
    if (list.left_out > 0)
      output.note(`${list.left_out} requests of busy moments are not in the list that this was taken from.`);
  },
});

/** What a model or a user wrote goes to a terminal: nothing in it is obeyed there. */
export function keptText(kept: KeptPrompt): string {
  const { id, at, tenant, key_id: key, name, expires_at: end, answers } = kept;
  const said = (of: string, text: string): string => `${of}\n${harmless(text).replaceAll(/^/gm, '  ')}`;
  return [
    `${id}: ${name || 'no adapter'}, ended ${when(at)}, by ${key} of ${tenant}; deleted ${when(end)}`,
    ...(kept.prompt_cut ? ['[the prompt was longer; its last messages are here]'] : []),
    ...kept.prompt.map(({ role, text }) => said(role, text)),
    ...(answers ?? []).map((text, i) => said(answers?.length === 1 ? 'answer' : `answer ${i + 1}`, text)),
    ...(kept.answers_cut
      ? [answers === null ? '[the answer was too long to be kept]' : '[the answer was longer]']
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
  if (unknown !== undefined) return `unknown: ${harmless(unknown)}`;
  const served = version === 0 ? name || '-' : `${name}@${version}`;
  return variant === '' ? served : `${served} (${variant})`;
};
