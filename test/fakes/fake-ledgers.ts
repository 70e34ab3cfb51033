import { isDeepStrictEqual } from 'node:util';
import type { KeyLimits } from '../../worker/metering/ports.ts';
import type { ChangeableKey, KeyLedger, KeyRow, RevokedLine } from '../../worker/access/ports.ts';

const changeable = (row: ChangeableKey): Omit<ChangeableKey, 'id'> => ({
  ...{ scopes: row.scopes, owners: row.owners, label: row.label, limits: row.limits },
  ...{
    limitsFixed: row.limitsFixed,
    strict: row.strict,
    strictFields: row.strictFields,
    degrade: row.degrade,
  },
  ...{ download: row.download, keepPrompts: row.keepPrompts, prompts: row.prompts },
});
const isSame = (a: ChangeableKey, b: ChangeableKey): boolean =>
  isDeepStrictEqual(changeable(a), changeable(b));

/** @param limitsOf what a row brings of its tenant. */
export function createFakeKeyLedger(limitsOf: (tenant: string) => KeyLimits | null = () => null): KeyLedger {
  const rows = new Map<string, KeyRow>();
  const read = (row: KeyRow): KeyRow => ({ ...structuredClone(row), tenantLimits: limitsOf(row.tenant) });
  const byId = (a: KeyRow, b: KeyRow) => (a.id < b.id ? -1 : 1);
  const revoked = (id: string | null) => id !== null && rows.get(id)?.revokedAt != null;
  const lineOf = ({ id, successors, made }: RevokedLine): KeyRow[] => {
    const line = new Set([id]);
    for (const member of line)
      for (const row of rows.values())
        if ((successors && row.replaces === member) || (made && row.createdBy === member)) line.add(row.id);
    return [...line].flatMap((member) => rows.get(member) ?? []).sort(byId);
  };
  const isThere = (row: KeyRow): boolean =>
    [...rows.values()].some(({ id, hash }) => id === row.id || hash === row.hash);
  return {
    async add(row) {
      if (isThere(row)) return false;
      if (revoked(row.createdBy) || revoked(row.replaces)) return false;
      rows.set(row.id, structuredClone(row));
      return true;
    },
    list: async (tenant) =>
      [...rows.values()]
        .filter((row) => tenant === null || row.tenant === tenant)
        .sort((a, b) => b.createdAt - a.createdAt || byId(a, b))
        .map(read),
    async get(id) {
      const row = rows.get(id);
      return row === undefined ? null : read(row);
    },
    async admin(hash) {
      const row = [...rows.values()].find(
        (one) => one.hash === hash && one.kind === 'admin' && one.revokedAt === null,
      );
      return row === undefined ? null : read(row);
    },
    async rotate({ row, expiresAt }) {
      const replaced = rows.get(row.replaces);
      if (isThere(row)) throw new Error('UNIQUE constraint failed: keys.hash');
      if (replaced === undefined || !isSame(replaced, row) || !(await this.add(row))) return false;
      replaced.replacedBy = row.id;
      replaced.expiresAt = Math.min(replaced.expiresAt ?? expiresAt, expiresAt);
      return true;
    },
    async change(changed, was) {
      const row = rows.get(changed.id);
      if (row === undefined || row.revokedAt !== null || !isSame(row, was)) return false;
      Object.assign(row, structuredClone(changeable(changed)));
      return true;
    },
    async revoke({ at, ...line }) {
      for (const row of lineOf(line)) row.revokedAt ??= at;
    },
    async line({ after, limit, ...line }) {
      return lineOf(line)
        .filter(({ id }) => id > (after ?? ''))
        .slice(0, limit)
        .map(read);
    },
    async madeBy({ id, at, limit }) {
      const line = new Set(lineOf({ id, successors: true, made: false }).map((row) => row.id));
      return [...rows.values()]
        .filter((row) => line.has(row.createdBy) && !line.has(row.id))
        .filter((row) => row.revokedAt === null && (row.expiresAt === null || row.expiresAt > at))
        .slice(0, limit)
        .map(read);
    },
    async page({ cursor, limit }) {
      const items = [...rows.values()]
        .filter(({ id }) => id > (cursor ?? ''))
        .sort(byId)
        .slice(0, limit)
        .map(read);
      return { items, cursor: items.length === limit ? (items.at(-1)?.id ?? null) : null };
    },
    async ofTenant({ tenant, cursor, limit }) {
      const items = [...rows.values()]
        .filter((row) => row.tenant === tenant && row.kind === 'api' && row.revokedAt === null)
        .filter(({ id }) => id > (cursor ?? ''))
        .sort(byId)
        .slice(0, limit)
        .map(read);
      return { items, cursor: items.length === limit ? (items.at(-1)?.id ?? null) : null };
    },
  };
}
