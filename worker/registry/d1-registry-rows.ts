import { z } from 'zod';
import {
  AboutName,
  AdapterProof,
  ManifestChainEntry,
  NOTHING_SAID,
  StoredEvaluation,
} from '../../protocol/index.ts';
import { readColumn } from '../platform/d1-database.ts';
import type { ChangeAction, HistoryRow, NameRow, UsableName, VersionRow, Pointer } from './ports.ts';

/** A row of `versions`. */
export interface VersionRecord {
  name: string;
  version: number;
  digest: string;
  owner: string;
  chain: string;
  chain_id: string;
  parent: string | null;
  base_id: string;
  base_digest: string;
  bytes: number;
  rank: number;
  rank_sum: number;
  created_at: number;
  created_by: string;
  proof: string | null;
  evaluation: string | null;
  retired_at: number | null;
  withdrawn_at: number | null;
  removed_at: number | null;
}

/** A row of `names`. */
export type NameRecord = Omit<NameRow, 'strict' | 'about' | 'removedAt'> & {
  strict: number;
  about: string | null;
  removed_at: number | null;
};
export const NAME =
  'SELECT name, owner, version, latest, sequence, alias, strict, about, removed_at FROM names';

/** `v` is in use and was made on top of `own`, which it pins by digest and name. */
export const STANDS_ON = `v.retired_at IS NULL AND v.removed_at IS NULL AND EXISTS (
  SELECT 1 FROM json_each(v.chain) below WHERE below.key < json_array_length(v.chain) - 1
    AND below.value ->> 'digest' = own.digest AND below.value ->> 'name' = own.name)`;

/** A version under the name that means it. */
export type UsableRecord = VersionRecord & { own_name: string; name_owner: string };

/** A row of `names` with its live version, whose fields are null when there is none. */
export type NameAndLive = Omit<VersionRecord, 'version'> & {
  version: number | null;
  own_name: string;
  name_owner: string;
  /** As the name says it. */
  live: number | null;
  latest: number;
  sequence: number;
  alias: string | null;
  strict: number;
  about: string | null;
  name_removed_at: number | null;
};

/** A row of `history`. */
export interface HistoryRecord {
  id: number;
  name: string;
  sequence: number;
  at: number;
  actor: string;
  owner: string;
  action: ChangeAction;
  from_version: number | null;
  to_version: number | null;
  target: string | null;
  why: string | null;
}

/** `v` is in use, and has the adapter `m.digest` of the name that is bound below its own. */
export const DEPENDS = `v.retired_at IS NULL AND v.removed_at IS NULL AND EXISTS (
  SELECT 1 FROM json_each(v.chain) member
  WHERE member.key < json_array_length(v.chain) - 1
    AND json_extract(member.value, '$.digest') = m.digest
    AND json_extract(member.value, '$.name') = ?)`;

/**
 * A proof as the column has it, to the last bit: as objects with decimals its twenty tokens would be half of the row.
 * Rows of before have those.
 */
const StoredProof = z.strictObject({
  ...AdapterProof.omit({ tokens: true }).shape,
  ids: z.array(z.number()),
  /** As many little-endian doubles. */
  logprobs: z.base64(),
});
const ReadProof = z.union([
  AdapterProof,
  StoredProof.transform(({ ids, logprobs, ...proof }) => ({
    ...proof,
    tokens: tokensOf(ids, logprobs),
  })).pipe(AdapterProof),
]);

/** Where there are not as many, a logarithm is missing, and the schema behind refuses the row. */
function tokensOf(ids: readonly number[], logprobs: string): { id: number; logprob: number | undefined }[] {
  const bytes = Uint8Array.from(atob(logprobs), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const whole = bytes.length === 8 * ids.length;
  return ids.map((id, i) => ({ id, logprob: whole ? view.getFloat64(8 * i, true) : undefined }));
}

export function proofToJson(proof: AdapterProof | null): string | null {
  if (proof === null) return null;
  const { tokens, ...rest } = proof;
  const view = new DataView(new ArrayBuffer(8 * tokens.length));
  tokens.forEach(({ logprob }, i) => view.setFloat64(8 * i, logprob, true));
  const logprobs = btoa(String.fromCharCode(...new Uint8Array(view.buffer)));
  const stored = { ...rest, ids: tokens.map(({ id }) => id), logprobs };
  return JSON.stringify(stored satisfies z.infer<typeof StoredProof>);
}

export const toJson = (value: object | null): string | null =>
  value === null ? null : JSON.stringify(value);

const column = <T>(schema: z.ZodType<T>, text: string, { name, version }: VersionRecord, column: string): T =>
  readColumn(schema, text, { table: 'versions', id: `${name}@${version}`, column });

/** @throws DamagedRow */
export const toVersion = (record: VersionRecord): VersionRow => ({
  name: record.name,
  version: record.version,
  digest: record.digest,
  owner: record.owner,
  chain: column(z.array(ManifestChainEntry), record.chain, record, 'chain'),
  chainId: record.chain_id,
  parent: record.parent,
  base: { id: record.base_id, digest: record.base_digest },
  bytes: record.bytes,
  rank: record.rank,
  rankSum: record.rank_sum,
  createdAt: record.created_at,
  createdBy: record.created_by,
  proof: record.proof === null ? null : column(ReadProof, record.proof, record, 'proof'),
  evaluation:
    record.evaluation === null ? null : column(StoredEvaluation, record.evaluation, record, 'evaluation'),
  // Whoever sees one that was removed treats it alike.
  retiredAt: record.retired_at ?? record.removed_at,
  withdrawnAt: record.withdrawn_at,
});

export const toHistory = ({ from_version, to_version, ...rest }: HistoryRecord): HistoryRow => ({
  ...rest,
  from: from_version,
  to: to_version,
});

/** @throws DamagedRow */
export const toName = ({ removed_at, ...record }: NameRecord): NameRow => ({
  ...record,
  strict: record.strict === 1,
  about:
    record.about === null
      ? NOTHING_SAID
      : readColumn(AboutName, record.about, { table: 'names', id: record.name, column: 'about' }),
  removedAt: removed_at,
});

export const toOwnName = (record: NameAndLive): NameRow =>
  toName({
    name: record.own_name,
    owner: record.name_owner,
    version: record.live,
    latest: record.latest,
    sequence: record.sequence,
    alias: record.alias,
    strict: record.strict,
    about: record.about,
    removed_at: record.name_removed_at,
  });

export const toUsable = (record: UsableRecord): UsableName => ({
  name: record.own_name,
  owner: record.name_owner,
  version: toVersion(record),
});

export function toPointer(record: NameAndLive): Pointer {
  if (record.alias !== null) return { kind: 'alias', target: record.alias };
  if (record.version !== null)
    return {
      kind: 'version',
      row: toVersion({ ...record, version: record.version }),
      strict: record.strict === 1,
    };
  return { kind: record.latest === 0 || record.name_removed_at !== null ? 'gone' : 'none' };
}
