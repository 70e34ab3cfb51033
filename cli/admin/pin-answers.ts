import { z } from 'zod';
import { plainTable } from '../output.ts';

/** Pinned names, and each origin's word on them. */
export const Pins = z.object({
  pins: z.array(
    z.object({
      name: z.string(),
      /** Unix ms. */
      pinned_at: z.number(),
      pinned_by: z.string(),
      /** `name@version`; null = nothing of it is live. */
      live: z.string().nullable(),
      origins: z.array(z.object({ id: z.string(), ok: z.boolean(), reason: z.string().nullable() })),
    }),
  ),
});
export type Pins = z.infer<typeof Pins>;

export const pinTable = ({ pins }: Pins): string =>
  pins.length === 0
    ? 'nothing is pinned'
    : plainTable(
        ['NAME', 'LIVE', 'IN MEMORY AT', 'NOT AT'],
        pins.map(({ name, live, origins }) => [
          name,
          live ?? '-',
          origins.flatMap(({ id, ok }) => (ok ? [id] : [])).join(', ') || '-',
          origins
            .flatMap(({ id, ok, reason }) => (ok ? [] : [`${id} (${reason ?? 'no reason'})`]))
            .join(', '),
        ]),
      );
