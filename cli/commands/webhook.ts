import {
  WEBHOOK_EVENTS,
  type WebhookEvent,
  type WebhookTest,
  type WebhookView,
} from '../../protocol/admin-api/webhooks.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { CliError } from '../cli-error.ts';
import { command, pickAction, type Actions } from '../command.ts';
import { didYouMean, usageError } from '../flags.ts';
import { type Output, plainTable, when } from '../output.ts';

export const actions = {
  list: { summary: 'List webhooks, with the messages that wait for them', arguments: [], flags: [] },
  add: {
    summary: 'Create a webhook, and print its secret',
    arguments: ['target'],
    flags: ['tenant', 'events'],
  },
  test: { summary: 'Send a test message now', arguments: ['target'], flags: [] },
  secret: { summary: 'Print the secret that verifies its messages', arguments: ['target'], flags: [] },
  remove: { summary: 'Remove a webhook, with the messages that wait', arguments: ['target'], flags: [] },
} as const satisfies Actions;

export const webhookCommand = command({
  verb: 'webhook',
  examples: [
    {
      line: 'graft webhook add https://example.com/graft',
      does: "tells that URL of budgets and, with the bootstrap key, of origins and every tenant's budgets",
    },
    {
      line: 'graft webhook add https://example.com/graft --tenant alice --events budget.used',
      does: 'of budgets of alice that are used up, alone',
    },
    { line: 'graft webhook test hook_0123456789abcdef', does: 'whether it arrives' },
    { line: 'graft webhook', does: 'lists them' },
  ],
  actions,
  args: {
    action: {
      type: 'positional',
      description: Object.keys(actions).join(', '),
      valueHint: Object.keys(actions).join('|'),
      required: false,
    },
    target: {
      type: 'positional',
      description: 'URL of the receiver; else the id of a webhook',
      required: false,
    },
    tenant: { type: 'string', description: 'Whose budgets; your own unless given', valueHint: 'tenant' },
    events: {
      type: 'string',
      description: `Only these, separated by commas: ${WEBHOOK_EVENTS.join(', ')}`,
      valueHint: 'events',
    },
  },
  async run({ args, output }) {
    const parsed = parseWebhook(args);
    const client = await adminClient();
    if (parsed.action === 'list') return list(client, output);
    if (parsed.action === 'add') return add(client, output, parsed);
    const { target: id } = parsed;
    const call = { params: { id } };
    if (parsed.action === 'test') {
      const tested = await callOperation(client, `test ${id}`, 'POST /admin/webhooks/:id/test', call);
      output.result(tested, () => testText(tested));
      if (!tested.delivered)
        throw new CliError({
          message: `The test message was not delivered: ${tested.reason}.`,
          code: 'webhook_not_delivered',
        });
    } else if (parsed.action === 'secret') {
      const route = 'GET /admin/webhooks/:id/secret';
      const answer = await callOperation(client, `read the secret of ${id}`, route, call);
      output.result(answer, () => answer.secret);
    } else {
      await callOperation(client, `remove ${id}`, 'DELETE /admin/webhooks/:id', call);
      output.result({ id, removed: true }, () => `${id} is removed`);
    }
  },
});

interface Wanted {
  action: keyof typeof actions;
  /** A URL for `add`, else an id; empty for `list`. */
  target: string;
  tenant?: string;
  events?: WebhookEvent[];
}

/** @throws CliError when an argument is missing or unexpected. */
export function parseWebhook(args: {
  action?: string | undefined;
  target?: string | undefined;
  tenant?: string | undefined;
  events?: string | undefined;
}): Wanted {
  const { target = '', tenant, events } = args;
  const word = args.action ?? 'list';
  const action = pickAction({ verb: 'webhook', actions, word, args });
  if (action === 'list') {
    if (target !== '') throw usageError(`\`graft webhook list\` takes no '${target}'.`);
  } else if (action === 'add') {
    if (target === '') throw usageError('Which URL? graft webhook add https://example.com/graft');
  } else if (target === '')
    throw usageError(`Which webhook? graft webhook ${action} <id>; \`graft webhook\` lists them.`);
  const wanted: Wanted = { action, target };
  if (tenant !== undefined) wanted.tenant = tenant;
  if (events !== undefined) wanted.events = events.split(',').map((one) => parseEvent(one.trim()));
  return wanted;
}

function parseEvent(text: string): WebhookEvent {
  const event = WEBHOOK_EVENTS.find((one) => one === text);
  if (event === undefined)
    throw usageError(
      `--events: '${text}' is not one of ${WEBHOOK_EVENTS.join(', ')}.${didYouMean(text, WEBHOOK_EVENTS)}`,
    );
  return event;
}

async function list(client: ApiClient, output: Output): Promise<void> {
  const route = 'GET /admin/webhooks';
  const all = await callPages(client, 'list the webhooks', route, {}, ({ webhooks }) => webhooks);
  output.result(all, () => (all.length === 0 ? 'no webhooks' : webhookTable(all)));
}

export const webhookTable = (webhooks: readonly WebhookView[]): string =>
  plainTable(
    ['ID', 'OF', 'URL', 'EVENTS', 'WAITING', 'SINCE'],
    webhooks.map(({ id, tenant, url, events, waiting, created_at }) => [
      id,
      tenant ?? 'operator',
      url,
      events.join(', '),
      String(waiting),
      when(created_at),
    ]),
  );

async function add(
  client: ApiClient,
  output: Output,
  { target: url, tenant, events }: Wanted,
): Promise<void> {
  const body = { url, tenant, events };
  const made = await callOperation(client, `add ${url}`, 'POST /admin/webhooks', { body });
  output.result(made, () =>
    [
      `${made.id} tells ${made.url} of ${made.events.join(', ')}` +
        (made.tenant === null ? '' : ` of ${made.tenant}`),
      `secret: ${made.secret}`,
    ].join('\n'),
  );
  output.note(`Try it: graft webhook test ${made.id}`);
}

const testText = ({ delivered, status }: WebhookTest): string =>
  delivered ? `delivered: the receiver answered ${status}` : 'not delivered';
