import { type RefObject } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';

interface Modal {
  /** Of the `dialog` element. */
  readonly dialog: {
    readonly ref: RefObject<HTMLDialogElement | null>;
    onCancel(event: Event): void;
    onClose(): void;
  };
  close(): void;
}

/**
 * A dialog that is open from its first drawing on.
 * @param isBusy it stays until what it waits for has come. @param onLeave it was left by Escape.
 */
export function useModal(isBusy: boolean, onLeave: () => void): Modal {
  const ref = useRef<HTMLDialogElement>(null);
  const isClosed = useRef(false);
  // Before the next key is pressed.
  useLayoutEffect(() => ref.current?.showModal(), []);
  return {
    dialog: {
      ref,
      onCancel(event) {
        event.preventDefault();
        if (!isBusy) onLeave();
      },
      // Browsers ask the page at the first Escape, and no more at the next one.
      onClose() {
        if (isClosed.current) return;
        if (isBusy) ref.current?.showModal();
        else onLeave();
      },
    },
    // Only taken away, it would not give the focus back to what it was opened from.
    close() {
      isClosed.current = true;
      ref.current?.close();
    },
  };
}
