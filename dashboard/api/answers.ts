/** Answers of the admin API, as far as the page reads them. Those of experiments are in protocol/experiment-api.ts. */
import { z } from 'zod';
import { StoredEvaluation } from '../../protocol/evaluation.ts';
import { OriginFigures } from '../../protocol/origin-figures.ts';
import { BaseInfo, ResidentList } from '../../protocol/origin-request.ts';

export const NameEntry = z.object({
  name: z.string(),
  owner: z.string(),
  /** Live version; null = all are staged. */
  version: z.int().nullable(),
  latest: z.int(),
  /** The name that it stands for. */
  alias: z.string().nullish(),
});
export type NameEntry = z.infer<typeof NameEntry>;
export const Names = z.object({ names: z.array(NameEntry), cursor: z.string().nullable() });
export type NamePage = z.infer<typeof Names>;

export const Version = z.object({
  name: z.string(),
  version: z.int(),
  digest: z.string(),
  /** Root first; ends with the version itself. */
  chain: z.array(z.object({ digest: z.string(), scale: z.number(), name: z.string(), owner: z.string() })),
  parent: z.string().nullable(),
  bytes: z.int(),
  rank: z.int(),
  /** Unix ms. */
  created_at: z.number(),
  created_by: z.string(),
  evaluation: StoredEvaluation.nullish(),
  /** Unix ms; null = in use. */
  retired_at: z.number().nullish(),
  live: z.boolean(),
});
export type Version = z.infer<typeof Version>;
/** Newest first. */
export const Versions = z.object({
  name: z.string(),
  owner: z.string(),
  version: z.int().nullable(),
  versions: z.array(Version),
});
export type Versions = z.infer<typeof Versions>;

export const Change = z.object({
  id: z.int(),
  /** Unix ms. */
  at: z.number(),
  actor: z.string(),
  action: z.string(),
  from: z.int().nullable(),
  to: z.int().nullable(),
  target: z.string().nullable(),
  why: z.string().nullable(),
});
export type Change = z.infer<typeof Change>;
export const Changes = z.object({ changes: z.array(Change) });

export const Flipped = z.object({ name: z.string(), version: z.int(), from: z.int().nullable() });

export const Origin = z.object({
  id: z.string(),
  /** null when it does not answer. */
  base: BaseInfo.nullable(),
  /** null also for all but the bootstrap key, as the figures. */
  residents: ResidentList.nullable(),
  figures: OriginFigures.nullish(),
});
export type Origin = z.infer<typeof Origin>;
export const Origins = z.object({ origins: z.array(Origin) });

export const Models = z.object({ data: z.array(z.object({ id: z.string() })) });
