import type { KeyLimitsView } from '../../../protocol/admin-api/keys.ts';
import { LIMITS } from '../../model/key-words.ts';
import { TextField } from '../../parts/fields.tsx';

export type LimitTexts = Record<(typeof LIMITS)[number][0], string>;

/** As the form begins. */
export function limitTexts(limits: KeyLimitsView | null): LimitTexts {
  const text = (field: (typeof LIMITS)[number][0]): string => String(limits?.[field] ?? '');
  return Object.fromEntries(LIMITS.map(([field]) => [field, text(field)])) as LimitTexts;
}

/** Writes what is typed into `texts`; empty = not limited. */
export function LimitFields({ texts }: { texts: LimitTexts }) {
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
