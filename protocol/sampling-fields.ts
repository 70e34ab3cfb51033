/** Request fields that say how tokens are chosen; chat completions, text completions and responses share them. */
import { z } from 'zod';
import { MAX_LOGIT_BIAS, MAX_STOP_CHARACTERS, MAX_STOP_SEQUENCES, MAX_VOCABULARY } from './limits.ts';

const stop = z.union([
  z.string().min(1).max(MAX_STOP_CHARACTERS),
  z.array(z.string().min(1).max(MAX_STOP_CHARACTERS)).max(MAX_STOP_SEQUENCES),
]);

const TOKEN_ID = /^(?:0|[1-9][0-9]*)$/;
const MAX_BIAS = 100;

const isMap = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Token ids in decimal -> what is added to their logits. Looked at entry by entry, so that errors name the key. */
const logitBias = z
  .custom<Record<string, number>>(isMap, 'must be an object of token ids')
  .superRefine((map, context) => {
    const complain = (message: string, path: string[]) =>
      context.addIssue({ code: 'custom', message, path, input: map });
    const entries = Object.entries(map);
    if (entries.length > MAX_LOGIT_BIAS)
      return complain(`has ${entries.length} entries; at most ${MAX_LOGIT_BIAS} are allowed`, []);
    for (const [key, bias] of entries) {
      if (!TOKEN_ID.test(key) || Number(key) >= MAX_VOCABULARY) return complain('is no token id', [key]);
      // `typeof` and both bounds: what comes from JSON may be anything, and 1e309 is Infinity.
      if (typeof bias !== 'number' || !(bias >= -MAX_BIAS && bias <= MAX_BIAS))
        return complain(`must be a number between -${MAX_BIAS} and ${MAX_BIAS}`, [key]);
    }
  });

/** `null` means "not given", as in OpenAI's schema. */
export const samplingFields = {
  temperature: z.number().min(0).max(2).nullish(),
  /** 0 leaves the likeliest token alone. */
  top_p: z.number().min(0).max(1).nullish(),
  /** 0 and -1 mean "off", as in vLLM. */
  top_k: z.int().min(-1).max(1_000_000).nullish(),
  /** Least probability, relative to the likeliest token's, after temperature. */
  min_p: z.number().min(0).max(1).nullish(),
  /** Per occurrence in what was generated. */
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  /** Once for what was generated at all. */
  presence_penalty: z.number().min(-2).max(2).nullish(),
  /** Divides positive and multiplies negative logits of tokens in prompt and answer; 1 = off, as in vLLM. */
  repetition_penalty: z.number().gt(0).max(2).nullish(),
  logit_bias: logitBias.nullish(),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  ignore_eos: z.boolean().nullish(),
};

/** What all three kinds of request have of these. */
export type SamplingFields = z.infer<z.ZodObject<typeof samplingFields>>;
