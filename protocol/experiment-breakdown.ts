/** What an experiment comes to in detail, deciding nothing: how values are spread, and results by one declared dimension. */
import { z } from 'zod';

export const ExperimentSpread = z.object({
  /** Single values, one an answer or a rating, that the percentiles are of. */
  values: z.int().min(0),
  /** Of the units, each the mean over its own values, as everywhere. */
  mean: z.number(),
  /** Half of the values are at most this; to 2 % of it. */
  p50: z.number(),
  /** 95 of a hundred are at most this; to 2 % of it. */
  p95: z.number(),
});
export type ExperimentSpread = z.infer<typeof ExperimentSpread>;

/** Credentials are nobody's to tell results by. */
const SECRET = ['authorization', 'cookie', 'proxy-authorization'];

/** `tenant`, `name` (what is below the experiment's), or a request header. */
export const SegmentBy = z
  .string()
  .regex(/^(tenant|name|header:[a-z0-9-]{1,64})$/, 'must be tenant, name, or header:<name in lower case>')
  .refine((text) => !SECRET.some((name) => text === `header:${name}`), 'must not be a credential');

export const ExperimentSegments = z.object({
  by: z.string(),
  /** Those with the most units first, 20 at most, and what is left. */
  rows: z.array(
    z.object({
      /** null: the request says nothing; of `name`: the experiment's own; see `other`. */
      segment: z.string().nullable(),
      /** All further ones together. */
      other: z.boolean().optional(),
      /** By variant's key. */
      units: z.record(z.string(), z.int().min(0)),
      /** Of the document's metrics, by key, by variant's key; not capped. */
      means: z.record(z.string(), z.record(z.string(), z.object({ n: z.int().min(0), mean: z.number() }))),
      /**
       * By treatment's key: over control, of the metric that decides, with intervals that are wrong anywhere in the
       * table in at most 5 % of experiments. null: with fewer than 50 values in an arm, or while control may be 0.
       */
      lifts: z.record(
        z.string(),
        z.object({ low: z.number(), estimate: z.number(), high: z.number() }).nullable(),
      ),
    }),
  ),
});
/** @returns what a row is called where people read it. */
export function segmentWords(
  by: string,
  { segment, other }: { segment: string | null; other?: boolean | undefined },
): string {
  if (other === true) return 'all others';
  return segment ?? (by === 'name' ? 'the name itself' : 'none given');
}
export type ExperimentSegments = z.infer<typeof ExperimentSegments>;
