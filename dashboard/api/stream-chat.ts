import type { ChatBody } from '../model/call-code.ts';
import { createChatReader, type ChatEvent, paceFrom, withPiece, type Pace } from '../model/chat-events.ts';
import type { TokenScores } from '../model/answer-difference.ts';
import { noAnswer, problemOf, type Problem } from '../model/problem.ts';

/** The state of an answer so far. */
export interface Answer {
  readonly state: 'running' | 'done' | 'stopped' | 'failed';
  readonly text: string;
  readonly pace: Pace;
  /** Of each token so far, if requested. */
  readonly scores: readonly TokenScores[];
  /** `name@version` that answered, from the headers. */
  readonly adapter: string | null;
  /** Ancestor that answered, because the requested name has no version. */
  readonly inherited: boolean;
  readonly variant: string | null;
  readonly degraded: string | null;
  readonly problem: Problem | null;
}

/** @param now ms, on the clock of all its times. */
export const answerFrom = (now: number): Answer => ({
  ...{ state: 'running', text: '', pace: paceFrom(now), scores: [], adapter: null, inherited: false },
  ...{ variant: null, degraded: null, problem: null },
});

/** @returns how an event changes an answer. */
export function withEvent(answer: Answer, event: ChatEvent, now: number): Partial<Answer> {
  switch (event.kind) {
    case 'text':
      return { text: answer.text + event.text, pace: withPiece(answer.pace, now) };
    case 'scores':
      return { scores: [...answer.scores, ...event.scores] };
    case 'usage':
      return { pace: { ...answer.pace, tokens: event.tokens } };
    case 'problem':
      return { state: 'failed', problem: event.problem };
    case 'done':
      return { state: 'done' };
  }
}

const CUT: Problem = {
  status: 200,
  code: 'stream_cut',
  message: 'The answer was cut off.',
  advice: 'The origin or the connection went away. Try again.',
  param: null,
};

/**
 * Sends a chat completion and reads it as it arrives.
 * @param onAnswer called on every change; the last one is not `running`. Never throws.
 */
export async function streamChat(params: {
  key: string;
  body: ChatBody;
  signal: AbortSignal;
  onAnswer: (answer: Answer) => void;
  now?: () => number;
  fetch?: typeof globalThis.fetch;
}): Promise<void> {
  const { key, body, signal, onAnswer, now = () => performance.now(), fetch = globalThis.fetch } = params;
  let answer = answerFrom(now());
  const change = (part: Partial<Answer>): void => onAnswer((answer = { ...answer, ...part }));
  change({});
  try {
    const response = await fetch('/v1/chat/completions', {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...body,
        stream: true,
        stream_options: { include_usage: true },
      }),
      cache: 'no-store',
      credentials: 'omit',
      signal,
    });
    if (!response.ok || response.body === null)
      return change({ state: 'failed', problem: problemOf(response.status, await response.text()) });
    const { headers } = response;
    change({
      adapter: headers.get('x-graft-adapter'),
      inherited: headers.get('x-graft-inherited') === 'true',
      variant: headers.get('x-graft-variant'),
      degraded: headers.get('x-graft-degraded'),
    });
    const read = createChatReader();
    const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) return change({ state: 'failed', problem: CUT });
      for (const event of read(value)) {
        change(withEvent(answer, event, now()));
        if (answer.state === 'running') continue;
        void pieces.cancel();
        return;
      }
    }
  } catch {
    change(
      signal.aborted
        ? { state: 'stopped' }
        : { state: 'failed', problem: answer.text === '' ? noAnswer() : CUT },
    );
  }
}
