/** What an origin finds when it tries an adapter, and what of it a version keeps to be tried against later. */
import { z } from 'zod';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN, MAX_TOP_LOGPROBS } from './limits.ts';

/** Probe prompts are short; this only bounds what a damaged row can ask for. */
const MAX_PROBE_CHARACTERS = 1_024;

/** One of the likeliest first tokens after a probe prompt; natural logarithm. */
export const ProbeToken = z.strictObject({ id: z.int().min(0), logprob: z.number() });
export type ProbeToken = z.infer<typeof ProbeToken>;

const ProbePrompt = z.string().min(1).max(MAX_PROBE_CHARACTERS);
const ProbeTokens = z.array(ProbeToken).min(1).max(MAX_TOP_LOGPROBS);

/** The likeliest first tokens of a chain, on the base that it was admitted with. Kept with the version. */
export const AdapterProof = z.strictObject({
  /** Base and weight format that it holds for: others give other numbers. */
  base_digest: Digest,
  weights: z.string(),
  prompt: ProbePrompt,
  /** Likeliest first. */
  tokens: ProbeTokens,
  /** Unix ms. */
  at: z.int(),
});
export type AdapterProof = z.infer<typeof AdapterProof>;

/** Body of `POST /adapters/<digest>/verify`; may be empty. */
export const VerifyRequest = z.strictObject({
  /** Root first, ending with the adapter; alone at scale 1 unless given. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** An earlier proof to compare with; the origin's first probe prompt unless given. */
  expected: z.strictObject({ prompt: ProbePrompt.optional(), tokens: ProbeTokens }).optional(),
});
export type VerifyRequest = z.infer<typeof VerifyRequest>;

/** Its answer, as far as the edge reads it. */
export const VerifyAnswer = z.object({
  digest: Digest,
  /** The chain loads, its output is finite, the last adapter changes it, and it is what was expected. */
  ok: z.boolean(),
  /** `no_change`, `non_finite`, `proof_mismatch`, or why the adapter does not load; null when ok. */
  reason: z.string().nullable(),
  /** The toolkit's code of what is wrong with the file, where that is the reason. */
  code: z.string().min(1).max(64).optional(),
  prompt: ProbePrompt,
  base_digest: Digest,
  weights: z.string(),
  /** Likeliest first tokens with the whole chain; empty when it could not run. */
  adapter: z.array(z.object({ id: z.int().min(0), logprob: z.number() })).max(MAX_TOP_LOGPROBS),
  /** KL(expected || now), nats a token; null when nothing was expected or the chain could not run. */
  kl: z.number().nullable(),
  /** Largest change that the last adapter makes to one of the likeliest first tokens, nats; on int8 noise included. */
  max_difference: z.number(),
});
export type VerifyAnswer = z.infer<typeof VerifyAnswer>;
