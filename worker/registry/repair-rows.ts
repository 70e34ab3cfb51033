import { DamagedRow } from '../platform/ports.ts';
import type { RepairStep } from './repair-deps.ts';

/** Rows of the system of record itself that nobody can read. They are told, not mended: nothing says what they were. */
export const reportRows: RepairStep = async (deps, { cursor }) => {
  const { checked, damaged, cursor: next } = await deps.rowAudit.page({ cursor, limit: ROW_PAGE });
  return { checked, mended: [], damaged, cursor: next };
};

/** Rows of one request, about a kilobyte each. */
const ROW_PAGE = 200;

/** @returns what was read; `damaged` when the row is there and cannot be read, which another step tells. */
export async function unlessDamaged<T>(read: Promise<T>): Promise<T | 'damaged'> {
  try {
    return await read;
  } catch (error) {
    if (error instanceof DamagedRow) return 'damaged';
    throw error;
  }
}
