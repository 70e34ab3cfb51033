import { KeyRound, Plus, Send, Trash2 } from 'lucide';
import { useState } from 'preact/hooks';
import type { WebhookEvent, WebhookView } from '../../../protocol/admin-api/webhooks.ts';
import { type Client, readWebhooks } from '../../api/client.ts';
import { whole } from '../../model/words.ts';
import { SecretNote } from '../../parts/copy-button.tsx';
import { type Question, useQuestion } from '../../parts/dialog.tsx';
import { SelectField, TextField } from '../../parts/fields.tsx';
import { useLoad } from '../../parts/hooks.ts';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote, toast } from '../../parts/notes.tsx';
import { Act, Breakable, Table } from '../../parts/table.tsx';

const REFRESH_MS = 30_000;

const EVENT_WORDS: Record<WebhookEvent, string> = {
  'budget.nearly_used': 'budget at 80 %',
  'budget.used': 'budget used',
  'origin.away': 'origin away',
  'origin.back': 'origin back',
};

/** What a new one can be told; undefined = everything. */
const EVENTS_OF = {
  everything: undefined,
  budgets: ['budget.nearly_used', 'budget.used'],
  used: ['budget.used'],
  origins: ['origin.away', 'origin.back'],
} satisfies Record<string, WebhookEvent[] | undefined>;
const OFFERED = [
  ['Everything that it may hear', 'everything'],
  ['Budgets: nearly used, and used', 'budgets'],
  ['Budgets that are used', 'used'],
  ['Origins (the operator alone)', 'origins'],
] as const satisfies readonly (readonly [words: string, value: keyof typeof EVENTS_OF])[];

interface Secret {
  readonly url: string;
  readonly secret: string;
}

/** Where alerts of budgets and origins go: added, tested and removed. */
export function Webhooks({ client }: { client: Client }) {
  const loaded = useLoad('webhooks', () => readWebhooks(client), REFRESH_MS);
  const [ask, dialog] = useQuestion(() => void loaded.reload());
  const [secret, setSecret] = useState<Secret | null>(null);
  const webhooks = loaded.data?.entries ?? [];
  const show = async ({ id, url }: WebhookView) => {
    const answer = await client.call('GET /admin/webhooks/:id/secret', { params: { id } });
    if (answer.ok) setSecret({ url, secret: answer.value.secret });
    else toast(answer.error.message);
  };
  const test = async ({ id }: WebhookView) => {
    const answer = await client.call('POST /admin/webhooks/:id/test', { params: { id } });
    if (!answer.ok) return toast(answer.error.message);
    const { delivered, status, reason } = answer.value;
    toast(
      delivered ? `Delivered: the receiver answered ${status}.` : `The test was not delivered: ${reason}.`,
    );
  };
  return (
    <section aria-label="Webhooks">
      <div class="title">
        <h2>Webhooks</h2>
        <button type="button" class="push" onClick={() => ask(addQuestion(client, setSecret))}>
          <Icon of={Plus} />
          New webhook
        </button>
      </div>
      <p class="hint">
        URLs that are told when 80 % and 100 % of a budget of tokens are used; the operator’s also when an
        origin goes away or comes back.
      </p>
      <ProblemNote problem={loaded.problem} onRetry={() => void loaded.reload()} />
      {secret !== null && (
        <SecretNote
          label="The secret of the webhook"
          secret={secret.secret}
          what="the secret"
          close="Close"
          onClose={() => setSecret(null)}
        >
          <strong>The secret of {secret.url}</strong> verifies its messages.
        </SecretNote>
      )}
      {webhooks.length > 0 && (
        <Table label="Webhooks" asCards columns={['URL', 'Of', 'Told of', 'Waiting', '']}>
          {webhooks.map((webhook) => (
            <tr key={webhook.id}>
              <th scope="row" class="beside-acts">
                <Breakable text={webhook.url} />
              </th>
              <td>{webhook.tenant ?? 'the operator'}</td>
              <td class="whole">{webhook.events.map((event) => EVENT_WORDS[event]).join(', ')}</td>
              <td>{webhook.waiting === 0 ? 'none' : whole(webhook.waiting)}</td>
              <td class="right act">
                <Act label={`Test ${webhook.url}`} icon={Send} onClick={() => void test(webhook)} />
                <Act
                  label={`Show the secret of ${webhook.url}`}
                  icon={KeyRound}
                  onClick={() => void show(webhook)}
                />
                <Act
                  label={`Remove ${webhook.url}`}
                  icon={Trash2}
                  onClick={() => ask(removeQuestion(client, webhook))}
                />
              </td>
            </tr>
          ))}
        </Table>
      )}
      {loaded.data !== null && webhooks.length === 0 && <p class="empty">There is none yet.</p>}
      {dialog}
    </section>
  );
}

function addQuestion(client: Client, onMade: (secret: Secret) => void): Question {
  const wanted: { url: string; tenant: string; events: keyof typeof EVENTS_OF } = {
    url: '',
    tenant: '',
    events: 'everything',
  };
  return {
    title: 'A new webhook',
    text: 'Messages are signed as Standard Webhooks specifies; you get the secret that verifies them.',
    act: 'Create the webhook',
    noReason: true,
    more: (
      <>
        <TextField
          label="URL"
          placeholder="https://example.com/graft"
          required
          onChange={(text) => (wanted.url = text)}
        />
        <SelectField label="Tell it of" of={OFFERED} onChange={(events) => (wanted.events = events)} />
        <TextField
          label="Tenant"
          placeholder="your own"
          hint="Whose budgets. The operator’s own webhook hears of all tenants."
          onChange={(text) => (wanted.tenant = text)}
        />
      </>
    ),
    run: async () => {
      const { url, tenant, events } = wanted;
      const body = { url, tenant: tenant === '' ? undefined : tenant, events: EVENTS_OF[events] };
      const answer = await client.call('POST /admin/webhooks', { body });
      if (!answer.ok) return answer.error;
      onMade(answer.value);
      return null;
    },
  };
}

const removeQuestion = (client: Client, { id, url }: WebhookView): Question => ({
  title: 'Remove this webhook?',
  text: `${url} is told nothing more, not even what waits for it.`,
  act: 'Remove it',
  danger: true,
  noReason: true,
  done: 'The webhook is removed.',
  run: async () => {
    const answer = await client.call('DELETE /admin/webhooks/:id', { params: { id } });
    return answer.ok ? null : answer.error;
  },
});
