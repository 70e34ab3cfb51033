/** Who says which of two answers to one request is better, and what that comes to; docs/experiments.md. */
import { z } from 'zod';
import { DEFAULT_JUDGE_TOKENS, MAX_JUDGE_TOKENS, MAX_KEPT_PAIRS } from './limits.ts';
import { PinnedAdapter } from './identity.ts';

/** The base without an adapter, as a judge. */
export const BASE_JUDGE = 'base';

/** Either `model` or `url`. */
export const ExperimentJudge = z
  .strictObject({
    /** `name@version`, or `base`: asked in both orders; where they disagree it is a tie. */
    model: z.union([z.literal(BASE_JUDGE), PinnedAdapter]).optional(),
    /** The application: gets prompt and answers by a signed POST, and says which is better. */
    url: z
      .url({ protocol: /^https?$/ })
      .max(1_000)
      .optional(),
    /** What judge and shadow together may use on one day (UTC), tokens. */
    tokens_per_day: z.int().positive().max(MAX_JUDGE_TOKENS).default(DEFAULT_JUDGE_TOKENS),
    /** The last ones are kept for their owner to read, for 30 days at most; 0 = none. */
    keep_pairs: z.int().min(0).max(MAX_KEPT_PAIRS).default(0),
  })
  .refine(({ model, url }) => (model === undefined) !== (url === undefined), 'needs either model or url');
export type ExperimentJudge = z.infer<typeof ExperimentJudge>;

/** Why a pair that was begun came to nothing. */
export const PAIR_FAILURES = [
  /** The challenger did not answer. */
  'challenger',
  /** The user's answer broke off, was left, or lasted too long. */
  'answer',
  /** What was asked, or answered, is too long, or not one text. */
  'form',
  /** The judge could not be asked, or took too long. */
  'judge',
  /** It said something else than which one is better. */
  'unclear',
] as const;
export type PairFailure = (typeof PAIR_FAILURES)[number];

/** The same in the words of every client. */
export const PAIR_FAILURE_WORDS: Readonly<Record<PairFailure, string>> = {
  challenger: 'the challenger did not answer',
  answer: 'the answer broke off, was left, or took too long',
  form: 'too long, or not one text to one answer',
  judge: 'the judge did not answer',
  unclear: 'the judge said something else',
};

const Count = z.int().min(0);
const Rate = z.number().min(0).max(1);

/** Judged pairs at one look. Wins are the treatment's. */
export const ExperimentPairs = z.object({
  /** Key of the variant whose answers are compared with control's. */
  variant: z.string(),
  wins: Count,
  ties: Count,
  losses: Count,
  /** Of the ties: the same to the letter, so that nobody was asked. */
  same: Count,
  /** Ties are half a win; the interval holds at every look. null before anybody won. */
  win_rate: z.object({ estimate: Rate, low: Rate, high: Rate }).nullable(),
  p_value: z.number(),
  verdict: z.enum(['better', 'worse', 'open']),
  /** Share of all choices of one answer that were for the one shown first; null = there was no choice. */
  first_chosen: Rate.nullable(),
  /** Share of the pairs in which a model judge said the same in both orders; null = nobody was asked twice. */
  agreement: Rate.nullable(),
  failures: z.partialRecord(z.enum(PAIR_FAILURES), Count),
  /** Of judge and shadow, today (UTC), tokens. */
  tokens_today: Count,
});
export type ExperimentPairs = z.infer<typeof ExperimentPairs>;

/** One of the last pairs, as its owner reads it. */
export const KeptPair = z.object({
  /** Unix ms. */
  at: z.int(),
  prompt: z.array(z.object({ role: z.string(), content: z.string() })),
  control: z.string(),
  treatment: z.string(),
  result: z.enum(['win', 'tie', 'loss']),
  /** Texts are cut at so many characters. */
  cut: z.boolean(),
});
export type KeptPair = z.infer<typeof KeptPair>;

/** `GET /admin/experiments/<id>/pairs`: the newest first. */
export const KeptPairList = z.object({ pairs: z.array(KeptPair) });
export type KeptPairList = z.infer<typeof KeptPairList>;

/** `GET /admin/experiments/<id>/judge-secret`: what the application checks the judge's calls with. */
export const JudgeSecret = z.object({
  /** `whsec_` and base64, as Standard Webhooks has it. Another URL has another one. */
  secret: z.string(),
});
export type JudgeSecret = z.infer<typeof JudgeSecret>;
