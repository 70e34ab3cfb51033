import { useState } from 'preact/hooks';
import { NewKey, type KeyLimitsView } from '../../../protocol/admin-api/keys.ts';
import type { Client } from '../../api/client.ts';
import { LIMITS, LIVES } from '../../model/key-words.ts';
import { CheckField, TextField } from '../../parts/fields.tsx';
import type { Question } from '../../parts/confirm.tsx';
import { KeepField } from './keep-field.tsx';
import { LimitFields, limitTexts } from './limit-fields.tsx';
import type { MadeKey } from './new-key-note.tsx';

/** What is chosen in the form. */
interface Wanted {
  kind: 'api' | 'admin';
  label: string;
  tenant: string;
  scopes: string;
  life: number | null;
  strict: boolean;
  download: boolean;
  keep: number | null;
  prompts: boolean;
}

/** @param onMade hears of the key itself, once. */
export function createQuestion(client: Client, onMade: (made: MadeKey) => void): Question {
  const wanted: Wanted = {
    ...{ kind: 'api', label: '', tenant: '', scopes: '', life: null, strict: false, download: false },
    ...{ keep: null, prompts: false },
  };
  const texts = limitTexts(null);
  return {
    title: 'A new key',
    text: 'It may use all adapters of its tenant, and what its scopes name besides.',
    act: 'Make the key',
    noReason: true,
    wide: true,
    more: <Fields wanted={wanted} texts={texts} />,
    run: async () => {
      const isApi = wanted.kind === 'api';
      const limits = Object.fromEntries(
        LIMITS.flatMap(([field]) => (texts[field] === '' ? [] : [[field, Number(texts[field])]])),
      ) as KeyLimitsView;
      const body = {
        kind: wanted.kind,
        label: wanted.label,
        scopes: wanted.scopes.split(/[\s,]+/).filter((scope) => scope !== ''),
        ...(wanted.tenant === '' ? {} : { tenant: wanted.tenant }),
        ...(wanted.life === null ? {} : { expires_in: wanted.life }),
        ...(isApi && Object.keys(limits).length > 0 ? { limits } : {}),
        ...(isApi && wanted.strict ? { strict: true } : {}),
        ...(isApi && wanted.keep !== null ? { keep_prompts: wanted.keep } : {}),
        ...(!isApi && wanted.download ? { download: true } : {}),
        ...(!isApi && wanted.prompts ? { prompts: true } : {}),
      };
      const answer = await client.call('POST /admin/keys', { body, as: NewKey.required({ key: true }) });
      if (!answer.ok) return answer.error;
      onMade(answer.value);
      return null;
    },
  };
}

function Fields({ wanted, texts }: { wanted: Wanted; texts: ReturnType<typeof limitTexts> }) {
  const [kind, setKind] = useState(wanted.kind);
  return (
    <>
      <div class="pair">
        <TextField
          label="Label"
          placeholder="checkout, production"
          onChange={(text) => (wanted.label = text)}
        />
        <label class="field">
          <span>Kind</span>
          <select
            value={kind}
            onChange={(event) => {
              wanted.kind = event.currentTarget.value === 'admin' ? 'admin' : 'api';
              setKind(wanted.kind);
            }}
          >
            <option value="api">API: asks models</option>
            <option value="admin">Admin: changes what there is</option>
          </select>
        </label>
        <TextField label="Tenant" placeholder="your own" onChange={(text) => (wanted.tenant = text)} />
        <label class="field">
          <span>Good for</span>
          <select onChange={(event) => (wanted.life = LIVES[event.currentTarget.selectedIndex]?.[1] ?? null)}>
            {LIVES.map(([words]) => (
              <option key={words}>{words}</option>
            ))}
          </select>
        </label>
      </div>
      <TextField
        label="Scopes"
        placeholder="medicine/** shared/tone"
        hint="Names of other tenants that it may use besides; ** = everything."
        onChange={(text) => (wanted.scopes = text)}
      />
      {kind === 'api' ? (
        <>
          <CheckField
            label="Strict: a name that is missing is an error, and no ancestor answers for it"
            onChange={(strict) => (wanted.strict = strict)}
          />
          <KeepField begin={null} onChange={(hours) => (wanted.keep = hours)} />
          <LimitFields texts={texts} />
        </>
      ) : (
        <>
          <CheckField
            label="It may download the tenant’s adapters"
            onChange={(download) => (wanted.download = download)}
          />
          <CheckField
            label="It may read the prompts and answers that the tenant’s keys have kept"
            onChange={(prompts) => (wanted.prompts = prompts)}
          />
        </>
      )}
    </>
  );
}
