import type { z } from 'zod';
import { DamagedRow, type DamagedPlace } from './ports.ts';
import { logLine } from '../log.ts';

/** @throws DamagedRow when the text is no JSON, or not what the column holds. */
export function readColumn<T>(schema: z.ZodType<T>, text: string, place: DamagedPlace): T {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new DamagedRow(place);
  }
  const parsed = schema.safeParse(json);
  if (!parsed.success) throw new DamagedRow(place);
  return parsed.data;
}

/** @returns what can be read of a list; the rest is left out and logged. */
export function readable<R, T>(records: readonly R[], read: (record: R) => T): T[] {
  return records.flatMap((record) => {
    try {
      return [read(record)];
    } catch (error) {
      if (!(error instanceof DamagedRow)) throw error;
      logLine('row_damaged', { ...error.place });
      return [];
    }
  });
}
