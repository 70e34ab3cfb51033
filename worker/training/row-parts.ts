/**
 * The bytes of files of rows, in R2 if it is bound, otherwise in KV, encrypted by AES-256-GCM with a key derived for this
 * purpose. The additional data is the part's place, so whoever can write the store can neither read rows nor move a part
 * to another file, number or tenant.
 */
import { ROWS_PART_BYTES } from '../../protocol/training-jobs.ts';
import type { ObjectBucket } from '../blobs/parts.ts';
import { derivedKey } from '../platform/derived-keys.ts';
import { StoreUnavailable } from '../platform/ports.ts';
import {
  deletePaced,
  putPaced,
  withTimeout,
  writePaced,
  type KvNamespace,
  type WritePacing,
} from '../platform/store-calls.ts';
import { ROWS_CACHE_TTL_S, ROWS_TIMEOUT_MS } from './limits.ts';
import type { RowPartPlace, RowParts } from './ports.ts';

const LABEL = 'graft-rows-v1';
const CIPHER = 'AES-GCM';
/** NIST SP 800-38D: 96 bits, random; 2^32 of them for one key. */
const IV_BYTES = 12;
const TAG_BYTES = 16;
/** KV takes no shorter life. */
const LEAST_TTL_S = 60;

/**
 * @param params.secret at least 32 random bytes; seals and opens.
 * @param params.accepted further secrets that open, during a rotation.
 */
export function createRowParts(params: {
  kv: KvNamespace;
  bucket: ObjectBucket | undefined;
  pacing: WritePacing;
  secret: Uint8Array<ArrayBuffer>;
  accepted: readonly Uint8Array<ArrayBuffer>[];
  now: () => number;
}): RowParts {
  const { kv, bucket, pacing, now } = params;
  const keyOf = (secret: Uint8Array<ArrayBuffer>) => derivedKey(secret, LABEL, 'aes-gcm');
  const key = keyOf(params.secret);
  const openers = [key, ...params.accepted.map(keyOf)];
  const cipher = ({ tenant, file, part }: RowPartPlace, iv: Uint8Array<ArrayBuffer>) => ({
    name: CIPHER,
    iv,
    additionalData: new TextEncoder().encode(`${LABEL}\n${tenant}\n${file}\n${part}`),
  });

  async function seal(place: RowPartPlace, bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    const iv = crypto.getRandomValues(new Uint8Array(IV_BYTES));
    const sealed = await crypto.subtle.encrypt(cipher(place, iv), await key(), bytes);
    const all = new Uint8Array(IV_BYTES + sealed.byteLength);
    all.set(iv);
    all.set(new Uint8Array(sealed), IV_BYTES);
    return all;
  }

  async function open(
    place: RowPartPlace,
    sealed: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer> | null> {
    const iv = sealed.slice(0, IV_BYTES);
    for (const opener of openers) {
      try {
        const bytes = await crypto.subtle.decrypt(
          cipher(place, iv),
          await opener(),
          sealed.subarray(IV_BYTES),
        );
        return new Uint8Array(bytes);
      } catch {
        // Another secret's, or not genuine.
      }
    }
    return null;
  }

  const kvKey = (file: string, part: number): string => `rows:${file}:${part}`;
  const objectKey = (file: string, part: number): string => `rows/${file}/${part}`;
  const numbers = (parts: number): number[] => Array.from({ length: parts }, (_, part) => part);

  async function streamOf({ file, part }: RowPartPlace): Promise<ReadableStream<Uint8Array> | null> {
    // A bucket may be bound later: what it lacks is in KV.
    const object = (await bucket?.get(objectKey(file, part))) ?? null;
    return object?.body ?? kv.get(kvKey(file, part), { type: 'stream', cacheTtl: ROWS_CACHE_TTL_S });
  }

  const storeName = bucket === undefined ? 'KV' : 'R2';
  return {
    async put(place, bytes, expiresAt) {
      const sealed = await seal(place, bytes);
      const { file, part } = place;
      const ttl = Math.max(LEAST_TTL_S, Math.ceil((expiresAt - now()) / 1_000));
      if (bucket === undefined) return putPaced(kv, kvKey(file, part), sealed, pacing, ttl);
      return writePaced('R2', pacing, () => bucket.put(objectKey(file, part), sealed));
    },

    async get(place) {
      let sealed: Uint8Array<ArrayBuffer> | null;
      try {
        const stream = await withTimeout(streamOf(place), ROWS_TIMEOUT_MS);
        sealed = stream === null ? null : await collect(stream);
      } catch (error) {
        throw new StoreUnavailable(storeName, error);
      }
      return sealed === null ? null : open(place, sealed);
    },

    async delete(file, parts) {
      if (bucket !== undefined && parts > 0)
        await writePaced('R2', pacing, () =>
          bucket.delete(numbers(parts).map((part) => objectKey(file, part))),
        );
      for (const part of numbers(parts)) await deletePaced(kv, kvKey(file, part), pacing);
    },
  };
}

/** @returns null for what is larger than a sealed part. */
async function collect(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer> | null> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of stream) {
    size += chunk.length;
    if (size > IV_BYTES + ROWS_PART_BYTES + TAG_BYTES) return null;
    chunks.push(chunk);
  }
  const whole = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    whole.set(chunk, at);
    at += chunk.length;
  }
  return whole;
}
