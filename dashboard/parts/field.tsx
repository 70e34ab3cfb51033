import type { ComponentChildren } from 'preact';
import { useId } from 'preact/hooks';

interface Aria {
  id: string;
  'aria-invalid': boolean;
  'aria-describedby': string;
}

/** A labelled input, with what is wrong with it or a hint below. */
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
