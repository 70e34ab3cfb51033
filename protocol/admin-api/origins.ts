/** Origins: what the admin API takes and answers. */
import { z } from 'zod';
import { OriginFigures } from '../origin-figures.ts';
import { BaseInfo, ResidentList } from '../origin-request.ts';
import type { AdminOperationTable } from './operation.ts';

export const OriginView = z.object({
  id: z.string(),
  /** Id of the base that the edge's configuration has it serve; absent where it does not say. */
  configured_base: z.string().optional(),
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

export const ORIGIN_OPERATIONS = {
  'GET /admin/origins': {
    id: 'listOrigins',
    tag: 'operation',
    rights: 'admin',
    summary: 'The origins, and to the bootstrap key what they hold and how busy they are.',
    query: z.strictObject({
      /** `true`: how busy they are, too. */
      figures: z.enum(['true', 'false']).default('false'),
    }),
    request: null,
    answers: { 200: { description: 'All of them, with `figures` where asked for.', schema: OriginList } },
  },
} as const satisfies AdminOperationTable;
