/** Origins, as the admin API answers. */
import { z } from 'zod';
import { OriginFigures } from '../origin-figures.ts';
import { BaseInfo, ResidentList } from '../origin-request.ts';

export const OriginView = z.object({
  id: z.string(),
  /** null when it does not answer. */
  base: BaseInfo.nullable(),
  /** null also for all but the bootstrap key, as the figures. */
  residents: ResidentList.nullable(),
  /** Only where they were asked for. */
  figures: OriginFigures.nullable().optional(),
});
export type OriginView = z.infer<typeof OriginView>;

/** `GET /admin/origins?figures=`. */
export const OriginList = z.object({ origins: z.array(OriginView) });
export type OriginList = z.infer<typeof OriginList>;
