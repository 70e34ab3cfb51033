/** Ports of judged pairs: what judges two answers to one conversation, and where that is counted. */
import type { ExperimentJudge, KeptPair, PairFailure } from '../../../protocol/experiment.ts';
import { z } from 'zod';

/** What a judge said of one pair; `win` is the treatment's. */
export interface Judged {
  result: 'win' | 'tie' | 'loss';
  /** The same to the letter: nobody was asked. */
  same: boolean;
  /** How often one answer was chosen, and how often of these the one shown first. */
  choices: number;
  first: number;
  /** A model was asked in both orders: whether it said the same. null = asked once, or not at all. */
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
  /** Pairs that a model was asked about in both orders, and those of them in which it said the same. */
  asked: number;
  agreed: number;
  failures: Partial<Record<PairFailure, number>>;
  /** Of judge and shadow on the day (UTC) of the question. */
  tokensToday: number;
}

/** Counts pairs, and keeps some where that is asked for. Throws StoreUnavailable. */
export interface PairTallies {
  /**
   * May another pair be begun? Of one user at most `MAX_PAIRS_OF_USER` that are judged are; null = nobody is named. What is under way when the day's tokens are used up comes to its end.
   */
  mayBegin(
    experiment: string,
    ask: { at: number; tokensPerDay: number; seed: string; user: string | null },
  ): Promise<boolean>;
  /**
   * Counts a pair, and of one that its user has no more room for the tokens alone; sent once, so that one which is lost
   * is lost.
   * @param ask.keep the last ones that are kept. @param ask.pair the texts, if they are to be.
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
      pair: KeptPair | null;
    },
  ): Promise<void>;
  snapshot(experiment: string, ask: { seed: string; at: number }): Promise<PairTally>;
  /** The newest first; none that is too old. */
  kept(experiment: string, ask: { at: number; keep: number }): Promise<KeptPair[]>;
  /** Deletes the pairs that are kept, not the tally; of what comes from here on no texts are kept. */
  forget(experiment: string): Promise<void>;
  /** Forgets all of it, for good: what comes for it from here on is thrown away. */
  erase(experiment: string): Promise<void>;
}

/** What one request's pair is made of. */
export interface PairParams {
  experiment: string;
  seed: string;
  /** Hash of the unit, where it is a user; null = nobody is named. */
  user: string | null;
  /** That the experiment is on. */
  name: string;
  judge: ExperimentJudge;
  /** Asks the model that judges, where one does. */
  ask: AskJudge;
  /** null = it is not one text. */
  prompt: readonly Turn[] | null;
}

/** Sends a chat request to the judging model. Never throws. @returns what it said; null = nothing. */
export type AskJudge = (
  request: Record<string, unknown>,
  signal: AbortSignal,
) => Promise<{ text: string | null; tokens: number }>;

/** One pair, from its beginning to its end. */
export interface PairInWork {
  /** false = nothing is to be run. */
  begin(): Promise<boolean>;
  /**
   * @param params.control what the user got, @param params.treatment what the shadow said: the texts of all choices;
   * null = nothing of use. @param params.tokens what the shadow used. @param params.signal ends the judging.
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

/** One message of a prompt, whatever API it came by. */
export interface Turn {
  role: string;
  content: string;
}

const Parts = z.array(z.object({ text: z.string() }));
const Content = z.union([z.string(), Parts.transform((parts) => parts.map(({ text }) => text).join(''))]);
const Turns = z.array(z.object({ role: z.string(), content: Content }));

/** Chats, text completions, responses and messages, as far as they are text alone and ask for one answer. */
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

/** @param request as the client API takes it, checked. @returns null for what is not one text to one answer. */
export function conversationOf(request: unknown): Turn[] | null {
  return Prompt.safeParse(request).data ?? null;
}
