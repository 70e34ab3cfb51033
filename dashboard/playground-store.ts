/** The playground's conversations, which continue and stay when the view is left. */
import { z } from 'zod';
import { answerFrom, streamChat, type Answer } from './api/stream-chat.ts';
import { storedPlayground, storePlayground } from './session.ts';
import {
  chatBody,
  EMPTY_SETUP,
  withAnswer,
  type Exchange,
  type Setup,
  type TurnOf,
} from './model/playground-setup.ts';
import { jsonOf } from './model/problem.ts';
import { createStore } from './model/store.ts';

/** The sides, by the columns that show them. */
export const SIDES = ['left', 'right'] as const;
export type Side = (typeof SIDES)[number];

export type Turn = TurnOf<Side, Answer>;

export interface Play {
  readonly setup: Setup;
  /** Oldest first. */
  readonly turns: readonly Turn[];
}

const text = z.string();
const Stored = z.object({
  setup: z.object({
    ...{ left: text.nullable(), right: text.nullable(), system: text, prompt: text },
    parameters: z.object({ temperature: text, top_p: text, max_tokens: text, seed: text, stop: text }),
  }),
  turns: z.array(
    z.object({ prompt: text, answers: z.object({ left: text.nullable(), right: text.nullable() }) }),
  ),
});

/** An answer from before the page was loaded: only its text is known. */
const said = (answer: string | null): Answer | null =>
  answer === null ? null : { ...answerFrom(0), state: 'done', text: answer };

function restored(): Play {
  const kept = storedPlayground();
  const stored = Stored.safeParse(kept === null ? null : jsonOf(kept));
  if (!stored.success) return { setup: EMPTY_SETUP, turns: [] };
  const { setup, turns } = stored.data;
  return {
    setup,
    turns: turns.map(({ prompt, answers: { left, right } }) => ({
      prompt,
      answers: { left: said(left), right: said(right) },
    })),
  };
}

let store: ReturnType<typeof createStore<Play>> | null = null;
/** Created when the playground is first opened. */
export const playground = () => (store ??= createStore(restored()));

let asking: AbortController | null = null;

function change(part: Partial<Play>): void {
  playground().set({ ...playground().get(), ...part });
}

function keep(): void {
  const { setup, turns } = playground().get();
  const texts = turns.map(({ prompt, answers: { left, right } }) => ({
    prompt,
    answers: { left: left?.text ?? null, right: right?.text ?? null },
  }));
  storePlayground(JSON.stringify({ setup, turns: texts }));
}

export function setUp(part: Partial<Setup>): void {
  change({ setup: { ...playground().get().setup, ...part } });
  keep();
}

/** One side's conversation. */
export const exchanges = (turns: readonly Turn[], side: Side): Exchange[] =>
  turns.flatMap(({ prompt, answers }) =>
    answers[side] === null ? [] : [{ prompt, answer: answers[side].text }],
  );

/** Asks both sides at once; pending answers are aborted. */
export function askBoth(params: { key: string; models: Readonly<Record<Side, string>> }): void {
  asking?.abort();
  const ending = (asking = new AbortController());
  const { setup, turns } = playground().get();
  const { prompt } = setup;
  const turn: Turn = { prompt, answers: { left: null, right: null } };
  change({ turns: [...turns, turn], setup: { ...setup, prompt: '' } });
  for (const side of SIDES) {
    const model = params.models[side];
    if (model === '') continue;
    void streamChat({
      key: params.key,
      body: chatBody(model, setup, exchanges(turns, side), prompt),
      signal: ending.signal,
      onAnswer: (answer) => {
        const answered = withAnswer(playground().get().turns, { at: turns.length, place: side, answer });
        if (asking !== ending || answered === null) return;
        change({ turns: answered });
        if (answer.state !== 'running') keep();
      },
    });
  }
}

export const stopAsking = (): void => asking?.abort();

/** A new conversation; the settings stay. */
export function beginAnew(): void {
  asking?.abort();
  asking = null;
  change({ turns: [] });
  keep();
}

/** At sign-out. */
export function clearPlayground(): void {
  asking?.abort();
  asking = null;
  store = null;
}
