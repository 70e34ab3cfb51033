import { useState } from 'preact/hooks';
import {
  NewKey,
  type KeyLimits,
  RevocationView,
  type KeyView,
  type LimitsChange,
} from '../../../protocol/admin-api/keys.ts';
import type { Client } from '../../api/client.ts';
import { LIMITS, LIVES, offeredRights, hoursWords, KEEPS, type OfferedRight } from '../../model/key-words.ts';
import { CheckField, SelectField, TextField } from '../../parts/fields.tsx';
import type { Question } from '../../parts/dialog.tsx';
import type { Result } from '../../../protocol/api-error.ts';
import type { Problem } from '../../model/problem.ts';
import { SecretNote } from '../../parts/copy-button.tsx';

const KINDS = [
  ['API: for requests to models', 'api'],
  ['Admin: for changes', 'admin'],
] as const;

/** The choices in the form. */
interface Wanted {
  kind: 'api' | 'admin';
  label: string;
  tenant: string;
  scopes: string;
  life: number | null;
  keep: number | null;
  rights: Partial<Record<OfferedRight, boolean>>;
}

/** @param onMade called with the key itself, once. */
export function createQuestion(client: Client, onMade: (made: MadeKey) => void): Question {
  const wanted: Wanted = {
    kind: 'api',
    label: '',
    tenant: '',
    scopes: '',
    life: null,
    keep: null,
    rights: {},
  };
  const texts = limitTexts(null);
  return {
    title: 'A new key',
    text: 'It may use all adapters of its tenant, and whatever its scopes add.',
    act: 'Create the key',
    noReason: true,
    wide: true,
    more: <Fields wanted={wanted} texts={texts} />,
    run: async () => {
      const isApi = wanted.kind === 'api';
      const limits = Object.fromEntries(
        LIMITS.flatMap(([field]) => (texts[field] === '' ? [] : [[field, Number(texts[field])]])),
      ) as KeyLimits;
      const body = {
        kind: wanted.kind,
        label: wanted.label,
        scopes: wanted.scopes.split(/[\s,]+/).filter((scope) => scope !== ''),
        ...(wanted.tenant === '' ? {} : { tenant: wanted.tenant }),
        ...(wanted.life === null ? {} : { expires_in: wanted.life }),
        ...(isApi && Object.keys(limits).length > 0 ? { limits } : {}),
        ...(isApi && wanted.keep !== null ? { keep_prompts: wanted.keep } : {}),
        ...Object.fromEntries(
          offeredRights(wanted.kind).flatMap(([field]) =>
            wanted.rights[field] === true ? [[field, true]] : [],
          ),
        ),
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
        <SelectField
          label="Kind"
          of={KINDS}
          onChange={(chosen) => {
            wanted.kind = chosen;
            setKind(chosen);
          }}
        />
        <TextField label="Tenant" placeholder="your own" onChange={(text) => (wanted.tenant = text)} />
        <SelectField label="Valid for" of={LIVES} onChange={(life) => (wanted.life = life)} />
      </div>
      <TextField
        label="Scopes"
        placeholder="medicine/** shared/tone"
        hint="Names of other tenants that it may use; ** = everything."
        onChange={(text) => (wanted.scopes = text)}
      />
      <details class="settings">
        <summary>{kind === 'api' ? 'More: rights, kept prompts, limits' : 'More: rights'}</summary>
        {offeredRights(kind).map(([field, label]) => (
          <CheckField key={field} label={label} onChange={(on) => (wanted.rights[field] = on)} />
        ))}
        {kind === 'api' && (
          <>
            <KeepField begin={null} onChange={(hours) => (wanted.keep = hours)} />
            <LimitFields texts={texts} />
          </>
        )}
      </details>
    </>
  );
}

const calledOf = ({ id, label }: KeyView): string => (label === '' ? id : label);

export function changeQuestion(client: Client, key: KeyView): Question {
  const texts = limitTexts(key.limits);
  const chosen = { label: key.label, keep: key.keep_prompts };
  return {
    title: `Change ${calledOf(key)}`,
    text: 'Limits take effect within a second here, and within about a minute elsewhere.',
    act: 'Change it',
    noReason: true,
    wide: true,
    done: `${calledOf(key)} is changed.`,
    more: (
      <>
        <TextField label="Label" begin={key.label} onChange={(label) => (chosen.label = label)} />
        <KeepField begin={key.keep_prompts} onChange={(hours) => (chosen.keep = hours)} />
        <LimitFields texts={texts} />
      </>
    ),
    run: async () => {
      const limits: LimitsChange = Object.fromEntries(
        LIMITS.map(([field]) => [field, texts[field] === '' ? null : Number(texts[field])]),
      );
      const { label, keep } = chosen;
      // Sent only when changed: turning it off deletes what is kept.
      const kept = keep === key.keep_prompts ? {} : { keep_prompts: keep };
      const body = { id: key.id, label, limits, ...kept };
      const answer = await client.call('POST /admin/keys/change', { body });
      return answer.ok ? null : answer.error;
    },
  };
}

/** Offered grace periods of the old key: label and ms. */
const GRACES: readonly (readonly [string, number])[] = [
  ['a day', 86_400_000],
  ['an hour', 3_600_000],
  ['a week', 7 * 86_400_000],
  ['not at all', 0],
];

/** @param onMade called with the new key itself, once. */
export function rotateQuestion(client: Client, key: KeyView, onMade: (made: MadeKey) => void): Question {
  const chosen: { grace: number } = { grace: GRACES[0]![1] };
  return {
    title: `Rotate ${calledOf(key)}?`,
    text:
      'A new key with the same rights and limits replaces it. Give it to the application while the old ' +
      'one is still valid.',
    act: 'Rotate',
    noReason: true,
    more: (
      <SelectField
        label="The old key stays valid for"
        of={GRACES}
        onChange={(grace) => (chosen.grace = grace)}
      />
    ),
    run: async () => {
      const answer = await client.call('POST /admin/keys/rotate', { body: { id: key.id, ...chosen } });
      if (!answer.ok) return answer.error;
      onMade(answer.value);
      return null;
    },
  };
}

export function revokeQuestion(client: Client, key: KeyView): Question {
  const chosen = { made: false, forget: false };
  const flag = (on: boolean): 'true' | 'false' => (on ? 'true' : 'false');
  return {
    title: `Revoke ${calledOf(key)}?`,
    text:
      'Requests with it, and with keys that replaced it, are refused within a second here and within ' +
      'about a minute elsewhere. This cannot be undone.',
    act: 'Revoke',
    danger: true,
    noReason: true,
    done: `${calledOf(key)} is revoked.`,
    more:
      key.kind === 'admin' ? (
        <CheckField label="Also the keys that it created" onChange={(made) => (chosen.made = made)} />
      ) : key.keep_prompts !== null ? (
        <CheckField
          label="Delete its prompts and answers now instead of when they expire"
          onChange={(forget) => (chosen.forget = forget)}
        />
      ) : undefined,
    run: async () => {
      for (let cursor: string | null = null; ;) {
        const page: Result<RevocationView, Problem> = await client.call('DELETE /admin/keys/:id', {
          params: { id: key.id },
          query: {
            ...{ report: 'true' as const, made: flag(chosen.made), cursor },
            forget_prompts: flag(chosen.forget),
          },
          as: RevocationView,
        });
        if (!page.ok) return page.error;
        cursor = page.value.cursor;
        if (cursor === null) return null;
      }
    },
  };
}

/** How long a key's prompts and answers are kept. @param props.begin hours, currently; null = not kept. */
function KeepField(props: { begin: number | null; onChange: (hours: number | null) => void }) {
  const { begin } = props;
  // A time that was set elsewhere is offered too, so that it stays unless changed.
  const offered = KEEPS.some(([, hours]) => hours === begin)
    ? KEEPS
    : [...KEEPS, [hoursWords(begin ?? 0), begin] as const];
  return (
    <SelectField
      label="Keep prompts and answers"
      of={offered}
      begin={begin}
      hint="Encrypted, and deleted after this time. Admin keys of the tenant that may read prompts see them under Requests."
      onChange={props.onChange}
    />
  );
}

type LimitTexts = Record<(typeof LIMITS)[number][0], string>;

/** Initial values. */
function limitTexts(limits: KeyLimits | null): LimitTexts {
  const text = (field: (typeof LIMITS)[number][0]): string => String(limits?.[field] ?? '');
  return Object.fromEntries(LIMITS.map(([field]) => [field, text(field)])) as LimitTexts;
}

/** Writes the typed limits into `texts`; empty = not limited. */
function LimitFields({ texts }: { texts: LimitTexts }) {
  return (
    <fieldset>
      <legend>Limits; empty = none</legend>
      <div class="pair">
        {LIMITS.map(([field, label]) => (
          <TextField
            key={field}
            label={label}
            type="number"
            begin={texts[field]}
            onChange={(text) => (texts[field] = text)}
          />
        ))}
      </div>
    </fieldset>
  );
}

export interface MadeKey {
  readonly key: string;
  readonly label: string;
}

/** Shows a new key, the only time that anybody sees it. */
export function NewKeyNote({ made, onClose }: { made: MadeKey; onClose: () => void }) {
  return (
    <SecretNote label="The new key" secret={made.key} what="the key" close="I have it" onClose={onClose}>
      <strong>{made.label === '' ? 'The new key' : `The key of ${made.label}`}: copy it now.</strong> It is
      shown only this once; the edge keeps only its digest.
    </SecretNote>
  );
}
