import type { ComponentChild } from 'preact';
import { useState } from 'preact/hooks';
import { Confirm, type Question } from './confirm.tsx';

/**
 * A question that a view asks when something in it is pressed.
 * @param onClosed when it was answered (`done`) or given up: what it may have changed is looked at again.
 * @returns how to ask, and the dialog to show.
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
