import { X } from 'lucide';
import { createStore } from '../model/store.ts';
import { Icon } from './icon.tsx';
import { useStore } from './use-store.ts';

interface Toast {
  readonly id: number;
  readonly text: string;
}

/** Long enough to read a short sentence twice. */
const SHOWN_MS = 6_000;
/** The oldest one goes when there are more. */
const MAX_SHOWN = 3;

const toasts = createStore<readonly Toast[]>([]);
let last = 0;

const take = (id: number): void => toasts.set(toasts.get().filter((one) => one.id !== id));

/** Says what was done, for a moment, wherever the page is. @param text a short sentence. */
export function toast(text: string): void {
  const id = ++last;
  toasts.set([...toasts.get(), { id, text }].slice(-MAX_SHOWN));
  setTimeout(() => take(id), SHOWN_MS);
}

export function Toasts() {
  const shown = useStore(toasts);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {shown.map(({ id, text }) => (
        <div key={id} class="toast">
          <span>{text}</span>
          <button type="button" class="bare" aria-label="Close" onClick={() => take(id)}>
            <Icon of={X} />
          </button>
        </div>
      ))}
    </div>
  );
}
