/** Ports of judged pairs: judging two answers to one conversation, and counting the verdicts. */
import { type ExperimentJudge, KeptPair, type PairFailure } from '../../../protocol/experiment.ts';
import { z } from 'zod';

/** A kept pair, and whose request it was. */
export const StoredPair = KeptPair.extend({
  /** Its key and the hash of its user; null = the key did not have `improve`. */
  learner: z.strictObject({ key: z.string(), user: z.string() }).nullable(),
});
export type StoredPair = z.infer<typeof StoredPair>;

/** A judge's verdict on one pair; `win` is the treatment's. */
export interface Judged {
  result: 'win' | 'tie' | 'loss';
  /** Identical answers: nobody was asked. */
  same: boolean;
  /** How often an answer was chosen, and how often the one shown first. */
  choices: number;
  first: number;
  /** Whether a model asked in both orders agreed with itself. null = asked once, or not at all. */
  agreed: boolean | null;
}

export type PairOutcome = Judged | { failure: PairFailure };

export interface PairTally {
  wins: number;
  ties: number;
  losses: number;
  same: number;
  choices: number;
  first: number;
  /** Pairs judged in both orders, and those with the same verdict. */
  asked: number;
  agreed: number;
  failures: Partial<Record<PairFailure, number>>;
  /** Of judge and shadow on the day (UTC) of the pair. */
  tokensToday: number;
}

/** Counts pairs, and keeps some if requested. Throws StoreUnavailable. */
export interface PairTallies {
  /**
   * May another pair start? At most `MAX_PAIRS_OF_USER` judged pairs per user; null = no user is named. Running
   * pairs end even after the day's tokens are used up.
   */
  mayBegin(
    experiment: string,
    ask: { at: number; tokensPerDay: number; seed: string; user: string | null },
  ): Promise<boolean>;
  /**
   * Counts a pair, or only its tokens if its user has too many. Sent once: a lost one is lost.
   * @param ask.keep number of kept pairs. @param ask.pair the texts to keep, if any.
   */
  record(
    experiment: string,
    ask: {
      seed: string;
      user: string | null;
      at: number;
      tokens: number;
      outcome: PairOutcome;
      keep: number;
      pair: StoredPair | null;
    },
  ): Promise<void>;
  snapshot(experiment: string, ask: { seed: string; at: number }): Promise<PairTally>;
  /** Newest first, without expired ones. */
  kept(experiment: string, ask: { at: number; keep: number }): Promise<StoredPair[]>;
  /** Deletes the kept pairs, not the tally; from here on no texts are kept. */
  forget(experiment: string): Promise<void>;
  /** Deletes everything permanently: later data for it is discarded. */
  erase(experiment: string): Promise<void>;
}

/** The pair of one request. */
export interface PairParams {
  experiment: string;
  seed: string;
  /** Hash of the unit, if it is a user; null = no user is named. */
  user: string | null;
  learner: StoredPair['learner'];
  /** The experiment's name. */
  name: string;
  judge: ExperimentJudge;
  /** Calls the judging model, if there is one. */
  ask: AskJudge;
  /** null = it is not a single text. */
  prompt: readonly Turn[] | null;
}

/** Sends a chat request to the judging model. Never throws. @returns its reply; null = none. */
export type AskJudge = (
  request: Record<string, unknown>,
  signal: AbortSignal,
) => Promise<{ text: string | null; tokens: number }>;

/** One pair, from start to end. */
export interface PairInWork {
  /** false = run nothing. */
  begin(): Promise<boolean>;
  /**
   * @param params.control the user's answer, @param params.treatment the shadow's: the texts of all choices;
   * null = unusable. @param params.tokens used by the shadow. @param params.signal aborts the judging.
   */
  end(params: {
    control: readonly string[] | null;
    treatment: readonly string[] | null;
    tokens: number;
    signal: AbortSignal;
  }): Promise<void>;
}

export interface PairJudges {
  open(params: PairParams): PairInWork;
}

/** One message of a prompt, from any API. */
export interface Turn {
  role: string;
  content: string;
}

const Parts = z.array(z.object({ text: z.string() }));
const Content = z.union([z.string(), Parts.transform((parts) => parts.map(({ text }) => text).join(''))]);
const Turns = z.array(z.object({ role: z.string(), content: Content }));

/** Chats, text completions, responses and messages, if they are text only and ask for one answer. */
const Prompt = z.union([
  z
    .object({
      messages: Turns,
      system: Content.nullish(),
      n: z.literal(1).nullish(),
    })
    .transform(({ messages, system }) => withSystem(system, messages)),
  z
    .object({ prompt: z.string(), n: z.literal(1).nullish() })
    .transform(({ prompt }) => [{ role: 'user', content: prompt }]),
  z
    .object({
      input: z.union([z.string().transform((content) => [{ role: 'user', content }]), Turns]),
      instructions: z.string().nullish(),
    })
    .transform(({ input, instructions }) => withSystem(instructions, input)),
]);

const withSystem = (system: string | null | undefined, turns: Turn[]): Turn[] =>
  system == null || system === '' ? turns : [{ role: 'system', content: system }, ...turns];

/** @param request validated by the client API. @returns null unless it is one text for one answer. */
export function conversationOf(request: unknown): Turn[] | null {
  return Prompt.safeParse(request).data ?? null;
}
