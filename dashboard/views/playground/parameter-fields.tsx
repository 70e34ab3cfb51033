import { useState } from 'preact/hooks';
import { DEFAULT_PARAMETERS, type Asked, type Parameters } from '../../model/playground-setup.ts';

/** Numbers that a request can have, as protocol/request-fields.ts takes them. */
const NUMBERS = [
  { field: 'temperature', label: 'Temperature', min: 0, max: 2, step: 0.1 },
  { field: 'top_p', label: 'Top p', min: 0, max: 1, step: 0.05 },
  { field: 'max_tokens', label: 'Max tokens', min: 1, max: undefined, step: 1 },
  { field: 'seed', label: 'Seed', min: undefined, max: undefined, step: 1 },
] as const;

/** The system prompt and how it is sampled, of both sides. */
export function ParameterFields(props: { setup: Asked; onChange: (part: Partial<Asked>) => void }) {
  const { setup, onChange } = props;
  const { parameters, system } = setup;
  const set = (part: Partial<Parameters>) => onChange({ parameters: { ...parameters, ...part } });
  const isSet = (field: keyof Parameters): boolean => parameters[field] !== DEFAULT_PARAMETERS[field];
  const fields = Object.keys(DEFAULT_PARAMETERS) as (keyof Parameters)[];
  // As it begins; later it is opened and closed by hand.
  const [isOpen] = useState(() => system !== '' || fields.some(isSet));
  return (
    <details class="settings" open={isOpen}>
      <summary>
        System message and parameters{' '}
        <span class="hint">
          {[
            ...(system === '' ? [] : ['a system message']),
            ...NUMBERS.flatMap(({ field, label }) =>
              parameters[field] === '' ? [] : [`${label.toLowerCase()} ${parameters[field]}`],
            ),
          ].join(', ')}
        </span>
      </summary>
      <label class="field">
        <span>System message</span>
        <textarea
          rows={2}
          dir="auto"
          value={system}
          placeholder="You are …"
          onInput={(event) => onChange({ system: event.currentTarget.value })}
        />
      </label>
      <div class="numbers">
        {NUMBERS.map(({ field, label, min, max, step }) => (
          <label key={field} class="field">
            <span>{label}</span>
            <input
              type="number"
              {...(min === undefined ? {} : { min })}
              {...(max === undefined ? {} : { max })}
              step={step}
              value={parameters[field]}
              placeholder="default"
              onInput={(event) => set({ [field]: event.currentTarget.value })}
            />
          </label>
        ))}
        <label class="field">
          <span>Stop, one a line</span>
          <textarea
            rows={1}
            value={parameters.stop}
            onInput={(event) => set({ stop: event.currentTarget.value })}
          />
        </label>
      </div>
    </details>
  );
}
