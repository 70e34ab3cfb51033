import { SendHorizontal } from 'lucide';
import type { ComponentChildren } from 'preact';
import { Icon } from '../../parts/icon.tsx';

/** Where the next prompt is written. @param props.children what stands beside the button that asks. */
export function Composer(props: {
  prompt: string;
  running: boolean;
  canAsk: boolean;
  onPrompt: (prompt: string) => void;
  onAsk: () => void;
  children: ComponentChildren;
}) {
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
            if (event.key === 'Enter' && (event.metaKey || event.ctrlKey))
              event.currentTarget.form?.requestSubmit();
          }}
        />
      </label>
      <div class="actions">
        <button type="submit" class="main" disabled={props.running || !props.canAsk}>
          <Icon of={SendHorizontal} />
          Ask both
        </button>
        {props.children}
        <span class="hint">Ctrl + Enter asks.</span>
      </div>
    </form>
  );
}
