/** Rows from what users and judges preferred: the client's reports, and what the admin API makes of them. */
import { z } from 'zod';
import { AdapterName } from '../identity.ts';
import { TRAINING_METHODS } from '../training.ts';
import type { AdminOperationTable } from './operation.ts';

const RequestId = z.string().min(1).max(256);

/** `POST /v1/preferences`: which of two answers to one conversation a user preferred. Their texts are not sent. */
export const PreferenceRequest = z
  .strictObject({
    /** `x-request-id` of the better answer. */
    chosen: RequestId,
    rejected: RequestId,
  })
  .refine(({ chosen, rejected }) => chosen !== rejected, 'names the same request twice')
  .meta({ id: 'PreferenceRequest' });
export type PreferenceRequest = z.infer<typeof PreferenceRequest>;

/** `known`: the same preference was recorded before. */
export const PreferenceAnswer = z
  .object({ object: z.literal('graft.preference'), status: z.enum(['recorded', 'known']) })
  .meta({ id: 'PreferenceAnswer' });
export type PreferenceAnswer = z.infer<typeof PreferenceAnswer>;

/** Why a decision makes no row. */
export const LEFT_OUT = [
  'consent',
  'gone',
  'tie',
  'contradicted',
  'different',
  'cut',
  'form',
  'day',
  'share',
  'size',
] as const;
export type LeftOut = (typeof LEFT_OUT)[number];

/** The same, as text for every client. */
export const LEFT_OUT_WORDS: Readonly<Record<LeftOut, string>> = {
  consent: 'the key does not have improve, or did not have it then',
  gone: 'a prompt or answer is no longer kept, or never was',
  tie: 'not decided: a tie, or twice the same answer',
  contradicted: 'decided both ways',
  different: 'the two answers are to different conversations',
  cut: 'a text was cut',
  form: 'not a conversation of plain text with one answer',
  day: 'more than one a day of one user',
  share: 'more than 1 % of the rows of one user',
  size: 'more text than one answer has room for',
};

/** Most rows of one user: this share of all, but at least one. */
export const MOST_OF_USER = 0.01;

/** `POST /admin/improvements`. */
export const ImprovementRequest = z
  .strictObject({
    name: AdapterName,
    /** Rows as this method reads them. */
    method: z.enum(TRAINING_METHODS).default('sft'),
  })
  .meta({ id: 'ImprovementRequest' });
export type ImprovementRequest = z.infer<typeof ImprovementRequest>;

const Message = z.object({ role: z.string(), content: z.string() });

export const ImprovementRow = z.object({
  /** When it was decided, unix ms. */
  at: z.int(),
  /** `user`: by `POST /v1/preferences`; `judge`: a kept pair of an experiment. */
  by: z.enum(['user', 'judge']),
  /** A line of a file that `graft train` reads. */
  row: z.union([
    z.object({ messages: z.array(Message) }),
    z.object({
      input: z.object({ messages: z.array(Message) }),
      preferred_output: z.array(Message),
      non_preferred_output: z.array(Message),
    }),
  ]),
});
export type ImprovementRow = z.infer<typeof ImprovementRow>;

/** What decisions on a name's answers make. */
export const ImprovementRows = z
  .object({
    name: AdapterName,
    method: z.enum(TRAINING_METHODS),
    /** Oldest decision first. */
    rows: z.array(ImprovementRow),
    /** How many users asked what the rows are about; requests without a user are their key's. */
    users: z.int().min(0),
    left_out: z.array(z.object({ why: z.enum(LEFT_OUT), count: z.int().min(1) })),
  })
  .meta({ id: 'ImprovementRows' });
export type ImprovementRows = z.infer<typeof ImprovementRows>;

export const IMPROVEMENT_OPERATIONS = {
  'POST /admin/improvements': {
    id: 'prepareImprovement',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Makes rows for the next version of a name from what users and judges preferred.',
    description:
      "Only for keys with the right to read prompts, of the tenant that owns the name, from that tenant's own " +
      'requests. A row needs a key with `improve`, when it was asked and now. One user makes at most 1 % of the ' +
      'rows (but one at least), and one a day. Each call is recorded in the history.',
    query: null,
    request: ImprovementRequest,
    answers: { 200: { description: 'The rows, and what was left out.', schema: ImprovementRows } },
  },
} as const satisfies AdminOperationTable;
