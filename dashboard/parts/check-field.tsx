import { useState } from 'preact/hooks';

/** A choice of a question: yes or no. */
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
