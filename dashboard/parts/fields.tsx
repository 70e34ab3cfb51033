import type { ComponentChildren } from 'preact';
import { useId, useState } from 'preact/hooks';
import type { Suggestion } from '../model/names.ts';

interface Aria {
  id: string;
  'aria-invalid': boolean;
  'aria-describedby': string;
}

/** A labelled input, with its error or hint below. */
export function Field(props: {
  label: string;
  problem: string | undefined;
  hint?: string | undefined;
  children: (aria: Aria) => ComponentChildren;
}) {
  const id = useId();
  const { problem, hint } = props;
  return (
    <div class="field">
      <label for={id}>{props.label}</label>
      {props.children({ id, 'aria-invalid': problem !== undefined, 'aria-describedby': `${id}-about` })}
      <p id={`${id}-about`} class={problem === undefined ? 'hint' : 'wrong'}>
        {problem ?? hint}
      </p>
    </div>
  );
}

/**
 * What an input suggests, by its `list`. Chromium shows value and label, other browsers only the label, so the label
 * repeats the value.
 */
export function Suggestions({ id, of }: { id: string; of: readonly Suggestion[] }) {
  return (
    <datalist id={id}>
      {of.map(({ value, about }) => (
        <option key={value} value={value} label={about === '' ? undefined : `${value}: ${about}`} />
      ))}
    </datalist>
  );
}

/** An input of a dialog, which holds its value while it is open. */
export function TextField(props: {
  label: string;
  begin?: string;
  placeholder?: string;
  type?: 'text' | 'number';
  list?: string;
  required?: boolean;
  hint?: string;
  onChange: (text: string) => void;
}) {
  const { label, begin = '', placeholder, type = 'text', list, required = false, hint } = props;
  const [text, setText] = useState(begin);
  return (
    <label class="field">
      <span>{label}</span>
      <input
        type={type}
        value={text}
        placeholder={placeholder}
        required={required}
        list={list}
        min={type === 'number' ? 1 : undefined}
        autocomplete="off"
        spellcheck={false}
        onInput={(event) => {
          setText(event.currentTarget.value);
          props.onChange(event.currentTarget.value.trim());
        }}
      />
      {hint !== undefined && <small class="hint">{hint}</small>}
    </label>
  );
}

/** A choice of a dialog: one of a few, by default the first. */
export function SelectField<T extends string | number | null>(props: {
  label: string;
  of: readonly (readonly [words: string, value: T])[];
  begin?: T;
  hint?: string;
  onChange: (value: T) => void;
}) {
  const { of, hint } = props;
  return (
    <label class="field">
      <span>{props.label}</span>
      <select onChange={(event) => props.onChange(of[event.currentTarget.selectedIndex]![1])}>
        {of.map(([words, value]) => (
          <option key={words} selected={value === props.begin}>
            {words}
          </option>
        ))}
      </select>
      {hint !== undefined && <small class="hint">{hint}</small>}
    </label>
  );
}

/** A choice of a dialog: yes or no. */
export function CheckField(props: { label: string; begin?: boolean; onChange: (checked: boolean) => void }) {
  const [checked, setChecked] = useState(props.begin ?? false);
  return (
    <label class="check">
      <input
        type="checkbox"
        checked={checked}
        onChange={(event) => {
          setChecked(event.currentTarget.checked);
          props.onChange(event.currentTarget.checked);
        }}
      />
      <span>{props.label}</span>
    </label>
  );
}

/** A few alternatives, one of them chosen, or none (null). */
export function Choices<T extends string>(props: {
  label: string;
  of: readonly (readonly [value: T, words: string])[];
  value: T | null;
  onChoose: (value: T) => void;
}) {
  return (
    <div class="choices" role="group" aria-label={props.label}>
      {props.of.map(([value, words]) => (
        <button
          key={value}
          type="button"
          aria-pressed={value === props.value}
          onClick={() => props.onChoose(value)}
        >
          {words}
        </button>
      ))}
    </div>
  );
}
