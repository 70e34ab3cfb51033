/** What is asked before a key changes, and the request that it is. */
import { RevocationView, type KeyView, type LimitsChange } from '../../../protocol/admin-api/keys.ts';
import type { Result } from '../../../protocol/api-error.ts';
import type { Client } from '../../api/client.ts';
import { LIMITS } from '../../model/key-words.ts';
import type { Problem } from '../../model/problem.ts';
import type { Question } from '../../parts/confirm.tsx';
import { CheckField, TextField } from '../../parts/fields.tsx';
import { KeepField } from './keep-field.tsx';
import { LimitFields, limitTexts } from './limit-fields.tsx';
import type { MadeKey } from './new-key-note.tsx';

const calledOf = ({ id, label }: KeyView): string => (label === '' ? id : label);

export function changeQuestion(client: Client, key: KeyView): Question {
  const texts = limitTexts(key.limits);
  const chosen = { label: key.label, keep: key.keep_prompts };
  return {
    title: `Change ${calledOf(key)}`,
    text: 'Limits hold within a second here, and within about a minute elsewhere.',
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
      // Unless it is changed, nothing is said of it: off deletes what is kept.
      const kept = keep === key.keep_prompts ? {} : { keep_prompts: keep };
      const body = { id: key.id, label, limits, ...kept };
      const answer = await client.call('POST /admin/keys/change', { body });
      return answer.ok ? null : answer.error;
    },
  };
}

/** How long the old key stays good, as the form offers it: words and ms. */
const GRACES: readonly (readonly [string, number])[] = [
  ['a day', 86_400_000],
  ['an hour', 3_600_000],
  ['a week', 7 * 86_400_000],
  ['not at all', 0],
];

/** @param onMade hears of the new key itself, once. */
export function rotateQuestion(client: Client, key: KeyView, onMade: (made: MadeKey) => void): Question {
  const chosen: { grace: number } = { grace: GRACES[0]![1] };
  return {
    title: `Rotate ${calledOf(key)}?`,
    text: 'A new key with the same rights and limits takes its place. Give it to the application while the old one is still good.',
    act: 'Rotate',
    noReason: true,
    more: (
      <label class="field">
        <span>The old key stays good for</span>
        <select onChange={(event) => (chosen.grace = GRACES[event.currentTarget.selectedIndex]?.[1] ?? 0)}>
          {GRACES.map(([words]) => (
            <option key={words}>{words}</option>
          ))}
        </select>
      </label>
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
    text: 'Requests with it, and with keys that it was rotated into, are refused within a second here and within about a minute elsewhere. It cannot be taken back.',
    act: 'Revoke',
    danger: true,
    noReason: true,
    done: `${calledOf(key)} is revoked.`,
    more:
      key.kind === 'admin' ? (
        <CheckField label="Also the keys that it made" onChange={(made) => (chosen.made = made)} />
      ) : key.keep_prompts !== null ? (
        <CheckField
          label="Delete its prompts and answers now, not when they expire"
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
