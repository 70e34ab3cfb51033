import type { ComponentChild, ComponentChildren, RefObject } from 'preact';
import { useEffect, useId, useRef, useState, useLayoutEffect } from 'preact/hooks';
import type { Problem } from '../model/problem.ts';
import { ProblemNote, toast } from './notes.tsx';

export interface Question {
  readonly title: string;
  /** What will happen. */
  readonly text: string;
  /** On the button that does it. */
  readonly act: string;
  readonly danger?: boolean;
  readonly more?: ComponentChildren;
  /** Takes no reason, because the history does not record it. */
  readonly noReason?: boolean;
  /** It has many fields. */
  readonly wide?: boolean;
  /** Message after success. */
  readonly done?: string;
  /** @returns null on success. */
  run(why: string | undefined): Promise<Problem | null>;
}

/** After this time the dialog may be closed, although the outcome is unknown. */
const LATE_MS = 30_000;

/** Asks for confirmation of a change that affects others, with a reason for the history. */
function Confirm({ question, onClose }: { question: Question; onClose: (done: boolean) => void }) {
  const [why, setWhy] = useState('');
  const [busy, setBusy] = useState(false);
  const [isLate, setLate] = useState(false);
  const isLeft = useRef(false);
  const modal = useModal(busy && !isLate, () => close(false));
  useEffect(() => {
    setLate(false);
    if (!busy) return;
    const timer = setTimeout(() => setLate(true), LATE_MS);
    return () => clearTimeout(timer);
  }, [busy]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const id = useId();
  const close = (done: boolean) => {
    if (isLeft.current) return;
    isLeft.current = true;
    modal.close();
    onClose(done);
  };
  const run = async () => {
    setBusy(true);
    const failed = await question.run(why.trim() === '' ? undefined : why.trim());
    setBusy(false);
    setProblem(failed);
    if (failed !== null) return;
    close(true);
    if (question.done !== undefined) toast(question.done);
  };
  return (
    <dialog
      {...modal.dialog}
      class={question.wide === true ? 'roomy' : undefined}
      aria-labelledby={`${id}-title`}
      aria-describedby={`${id}-text`}
    >
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <h2 id={`${id}-title`}>{question.title}</h2>
        <p id={`${id}-text`}>{question.text}</p>
        {question.more}
        {question.noReason !== true && (
          <label class="field">
            <span>Reason, for the history (optional)</span>
            <input
              value={why}
              maxLength={500}
              autocomplete="off"
              onInput={(event) => setWhy(event.currentTarget.value)}
            />
          </label>
        )}
        <ProblemNote problem={problem} />
        {isLate && (
          <p class="note" role="alert">
            The edge has not answered yet, but may have done it. Check before you try again.
          </p>
        )}
        <div class="actions end">
          <button type="button" class="quiet" disabled={busy && !isLate} onClick={() => close(false)}>
            {isLate ? 'Close' : 'Cancel'}
          </button>
          <button type="submit" class={question.danger === true ? 'danger' : 'main'} disabled={busy}>
            {busy ? 'Working …' : question.act}
          </button>
        </div>
      </form>
    </dialog>
  );
}

/**
 * A dialog of a view, opened by a button.
 * @param onClosed after success (`done`) or cancel: reload what it may have changed.
 * @returns how to open it, and the dialog to render.
 */
export function useQuestion(
  onClosed: (done: boolean) => void,
): [ask: (question: Question) => void, dialog: ComponentChild] {
  const [question, setQuestion] = useState<Question | null>(null);
  const close = (done: boolean) => {
    setQuestion(null);
    onClosed(done);
  };
  return [setQuestion, question !== null && <Confirm question={question} onClose={close} />];
}

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
 * A dialog that is open from its first render on.
 * @param isBusy it cannot be closed before its request ends. @param onLeave called on Escape.
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
      // Browsers ask the page at the first Escape only.
      onClose() {
        if (isClosed.current) return;
        if (isBusy) ref.current?.showModal();
        else onLeave();
      },
    },
    // Removing the element alone would not return the focus.
    close() {
      isClosed.current = true;
      ref.current?.close();
    },
  };
}
