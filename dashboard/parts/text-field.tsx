import { useState } from 'preact/hooks';

/** An input of a question: the question holds what is in it while it is open. */
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
