import { SendHorizontal } from 'lucide';
import type { ComponentChildren } from 'preact';
import { Icon } from '../../parts/icon.tsx';

/** Keyboards on the screen of a telephone have no Shift + Enter: there Enter begins a new line. */
const hasKeyboard = matchMedia('(any-pointer: fine)');

/** Where the next prompt is written. @param props.children what stands beside the button that asks. */
export function Composer(props: {
  prompt: string;
  running: boolean;
  canAsk: boolean;
  onPrompt: (prompt: string) => void;
  onAsk: () => void;
  children: ComponentChildren;
}) {
  const mayAsk = !props.running && props.canAsk;
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        props.onAsk();
      }}
    >
      <label class="field">
        <span>Prompt, for both</span>
        <textarea
          rows={2}
          dir="auto"
          required
          value={props.prompt}
          placeholder="Ask both sides the same"
          onInput={(event) => props.onPrompt(event.currentTarget.value)}
          onKeyDown={(event) => {
            // Enter also chooses among what an input method suggests.
            if (event.key !== 'Enter' || event.shiftKey || event.isComposing || !hasKeyboard.matches) return;
            event.preventDefault();
            if (mayAsk) event.currentTarget.form?.requestSubmit();
          }}
        />
      </label>
      <div class="actions">
        <button type="submit" class="main" disabled={!mayAsk}>
          <Icon of={SendHorizontal} />
          Ask both
        </button>
        {props.children}
        {hasKeyboard.matches && <span class="hint">Enter asks, Shift + Enter begins a new line.</span>}
      </div>
    </form>
  );
}
