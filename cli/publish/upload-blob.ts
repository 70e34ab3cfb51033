import { MAX_PART_BYTES, sha256Hex, type BlobRecord } from '../../protocol/index.ts';
import { BlobState } from '../admin/admin-answers.ts';
import type { ApiClient } from '../api-client.ts';

/** Enough to keep a link busy; more would only hold more parts in the edge's memory. */
const PARALLEL_PARTS = 2;

/** @returns views of `bytes`, at most `partBytes` each. */
export function splitParts(
  bytes: Uint8Array<ArrayBuffer>,
  partBytes = MAX_PART_BYTES,
): Uint8Array<ArrayBuffer>[] {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  for (let offset = 0; offset < bytes.length; offset += partBytes)
    parts.push(bytes.subarray(offset, offset + partBytes));
  return parts;
}

/**
 * Sends a canonical file in parts and closes it. Parts that the server has from us are not sent again, so the same
 * call goes on where another ended.
 * @param onProgress bytes that the server has.
 * @returns how many bytes went over the wire.
 * @throws CliError
 */
export async function uploadBlob(params: {
  client: ApiClient;
  digest: string;
  bytes: Uint8Array<ArrayBuffer>;
  onProgress?: (done: number) => void;
  partBytes?: number;
}): Promise<number> {
  const { client, digest, bytes, onProgress } = params;
  const path = `/admin/blobs/${digest}`;
  const answer = await client.send('look up the upload', path);
  const state = BlobState.parse(await answer.json());
  if (state.complete) {
    onProgress?.(bytes.length);
    return 0;
  }
  const parts = splitParts(bytes, params.partBytes);
  const record: BlobRecord = {
    bytes: bytes.length,
    parts: await Promise.all(
      parts.map(async (part) => ({ bytes: part.length, sha256: await sha256Hex(part) })),
    ),
  };
  const held = new Map(state.parts.map((part) => [part.index, part.sha256]));
  let done = 0;
  const missing = record.parts.flatMap((part, index) => {
    if (held.get(index) !== part.sha256) return [index];
    done += part.bytes;
    return [];
  });
  onProgress?.(done);
  let sent = 0;
  const sender = async () => {
    for (let index = missing.shift(); index !== undefined; index = missing.shift()) {
      const part = parts[index] as Uint8Array<ArrayBuffer>;
      const sha256 = record.parts[index]?.sha256 as string;
      const response = await client.send(`send part ${index}`, `${path}/parts/${index}?sha256=${sha256}`, {
        method: 'PUT',
        body: part,
        headers: { 'content-type': 'application/octet-stream' },
      });
      await response.body?.cancel();
      sent += part.length;
      onProgress?.((done += part.length));
    }
  };
  await Promise.all(Array.from({ length: PARALLEL_PARTS }, sender));
  const closed = await client.send('close the upload', path, {
    method: 'POST',
    body: JSON.stringify(record),
  });
  await closed.body?.cancel();
  return sent;
}
