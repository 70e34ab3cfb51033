import type { PinList } from '../../protocol/index.ts';
import { plainTable } from '../output.ts';

/** Pinned names, and each origin's word on them. */
export const pinTable = ({ pins }: PinList): string =>
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
