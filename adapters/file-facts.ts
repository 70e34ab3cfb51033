import type { BlobRecord } from '../protocol/adapter-manifest.ts';
import type { FileFacts } from '../protocol/admin-api/versions.ts';
import { inFeatures, outFeatures } from './format/lora-module.ts';
import type { PackedAdapter } from './pack-adapter.ts';

/** As a canonical file begins: u64, little-endian; 0 of what is too short. */
export const headerBytes = ({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>): number =>
  length < 8 ? 0 : Number(new DataView(buffer, byteOffset).getBigUint64(0, true));

/** What the server would find in the file's header. */
export const fileFacts = ({ config, modules, bytes }: PackedAdapter, record: BlobRecord): FileFacts => ({
  record,
  header_bytes: headerBytes(bytes),
  base: config.base,
  parent: config.parent,
  modules: modules.map((module) => ({
    name: module.name,
    rank: module.rank,
    in: inFeatures(module),
    out: outFeatures(module),
  })),
});
