import { Plus } from 'lucide';
import type { GrantView } from '../../../protocol/admin-api/grants.ts';
import type { Client } from '../../api/client.ts';
import { ago } from '../../model/words.ts';
import { CheckField, TextField } from '../../parts/fields.tsx';
import { type Question, useQuestion } from '../../parts/confirm.tsx';
import { Icon } from '../../parts/icon.tsx';
import { useLoad } from '../../parts/use-load.ts';

/** Which other tenants may use a name: by a grant of it, or of what is above it. */
export function Access({ client, name }: { client: Client; name: string }) {
  const grants = useLoad('grants', () => client.call('GET /admin/grants', {}));
  const [ask, dialog] = useQuestion(() => void grants.reload());
  const here = (grants.data?.grants ?? []).filter(({ scope }) => covers(scope, name));
  if (grants.data === null) return null;
  return (
    <section aria-label="Access">
      <div class="title">
        <h3>Access</h3>
        <button type="button" class="small" onClick={() => ask(grantQuestion(client, name))}>
          <Icon of={Plus} />
          Grant
        </button>
      </div>
      {here.length === 0 ? (
        <p class="hint">Only its owner’s keys, and keys whose scopes name it, may use it.</p>
      ) : (
        <ul class="grants">
          {here.map((grant) => (
            <li key={`${grant.scope} ${grant.tenant}`}>
              <span>
                <strong>{grant.tenant === '*' ? 'Everybody' : grant.tenant}</strong> may use{' '}
                <code>{grant.scope}</code>
              </span>
              <span class="hint">{ago(grant.created_at, Date.now())}</span>
              <button type="button" class="small" onClick={() => ask(ungrantQuestion(client, grant))}>
                Take back
              </button>
            </li>
          ))}
        </ul>
      )}
      {dialog}
    </section>
  );
}

const covers = (scope: string, name: string): boolean =>
  scope === name || scope === '**' || (scope.endsWith('/**') && `${name}/`.startsWith(scope.slice(0, -2)));

function grantQuestion(client: Client, name: string): Question {
  const chosen = { tenant: '', below: false };
  return {
    title: `Who else may use ${name}?`,
    text: 'The keys of the tenant may ask for it, and build on it, until the grant is taken back.',
    act: 'Grant',
    noReason: true,
    done: 'The grant is given.',
    more: (
      <>
        <TextField
          label="Tenant"
          placeholder="acme"
          hint="Or * for everybody."
          required
          onChange={(tenant) => (chosen.tenant = tenant)}
        />
        <CheckField
          label={`Also everything below it, ${name}/**`}
          onChange={(below) => (chosen.below = below)}
        />
      </>
    ),
    run: async () => {
      const body = { scope: chosen.below ? `${name}/**` : name, tenant: chosen.tenant };
      const answer = await client.call('POST /admin/grants', { body });
      return answer.ok ? null : answer.error;
    },
  };
}

const ungrantQuestion = (client: Client, { scope, tenant }: GrantView): Question => ({
  title: `Take the grant of ${scope} back?`,
  text: `${tenant === '*' ? 'Others' : tenant} may not use it any more; what was built on it is not served.`,
  act: 'Take it back',
  danger: true,
  noReason: true,
  done: 'The grant is taken back.',
  run: async () => {
    const answer = await client.call('DELETE /admin/grants', { query: { scope, tenant } });
    return answer.ok ? null : answer.error;
  },
});
