/** What is asked and answered here and at the origin. It is kept until the document is left. */
import { answerHere } from './api/engine-here.ts';
import { streamChat, type Answer } from './api/stream-chat.ts';
import { chatBody, EMPTY_HERE, withAnswer, type HereSetup, type TurnOf } from './model/playground-setup.ts';
import { createStore } from './model/store.ts';

export const PLACES = ['origin', 'here'] as const;
export type Place = (typeof PLACES)[number];

export type HereTurn = TurnOf<Place, Answer>;

export interface Here {
  readonly setup: HereSetup;
  /** Oldest first. */
  readonly turns: readonly HereTurn[];
}

/** Of each token, so that both distributions can be compared; the most that the edge gives. */
const SCORES = { logprobs: true, top_logprobs: 20 };

export const hereStore = createStore<Here>({ setup: EMPTY_HERE, turns: [] });

let asking: AbortController | null = null;

const change = (part: Partial<Here>): void => hereStore.set({ ...hereStore.get(), ...part });

export const setUpHere = (part: Partial<HereSetup>): void =>
  change({ setup: { ...hereStore.get().setup, ...part } });

/**
 * Asks both; what was asked before and still runs is given up. Both hear what the origin has said before, so that they
 * always answer to the same.
 * @param params.model for the edge. @param params.name for graft/browser; null = the base itself.
 * @param params.apart the browser begins when the origin has ended: on one machine each would slow the other.
 */
export async function askHere(params: {
  key: string;
  model: string;
  name: string | null;
  apart: boolean;
}): Promise<void> {
  const { key, model, name, apart } = params;
  asking?.abort();
  const ending = (asking = new AbortController());
  const { signal } = ending;
  const { setup, turns } = hereStore.get();
  const { prompt } = setup;
  change({
    turns: [...turns, { prompt, answers: { origin: null, here: null } }],
    setup: { ...setup, prompt: '' },
  });
  const said = turns.map((turn) => ({ prompt: turn.prompt, answer: turn.answers.origin?.text ?? '' }));
  const body = { ...chatBody(model, setup, said, prompt), ...SCORES };
  const hear = (place: Place) => (answer: Answer) => {
    const answered = withAnswer(hereStore.get().turns, { at: turns.length, place, answer });
    if (asking === ending && answered !== null) change({ turns: answered });
  };
  const atOrigin = streamChat({ key, body, signal, onAnswer: hear('origin') });
  if (apart) await atOrigin;
  if (signal.aborted) return;
  await answerHere({ key, name, body, signal, onAnswer: hear('here') });
}

export const stopHere = (): void => asking?.abort();

/** A conversation without its past; what is set stays. */
export function beginHere(): void {
  asking?.abort();
  asking = null;
  change({ turns: [] });
}
