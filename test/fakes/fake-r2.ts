import { createHash } from 'node:crypto';
import type { ObjectBucket } from '../../worker/blobs/parts.ts';

const WRITE_INTERVAL_MS = 1_000;
const MAX_KEY_BYTES = 1_024;
const MAX_KEYS_A_DELETION = 1_000;

/** R2: no stale reads; an object takes one write a second; a wrong sha256 is refused. */
export class FakeR2 implements ObjectBucket {
  trouble: 'throw' | 'hang' | 'null' | 'garbage' | null = null;
  reads = 0;
  readonly objects = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #now: () => number;
  readonly #writtenAt = new Map<string, number>();

  /** @param now unix ms; the test moves it. */
  constructor(now: () => number) {
    this.#now = now;
  }

  readonly get: ObjectBucket['get'] = async (key) => {
    this.reads += 1;
    if (this.trouble === 'throw') throw new Error('get: We encountered an internal error. (10001)');
    if (this.trouble === 'hang') return new Promise(() => undefined);
    const value = this.trouble === 'garbage' ? new TextEncoder().encode('<html>') : this.objects.get(key);
    if (value === undefined || this.trouble === 'null') return null;
    return { body: new Blob([value]).stream(), text: async () => new TextDecoder().decode(value) };
  };

  readonly put: ObjectBucket['put'] = async (key, value, options) => {
    const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value.slice();
    if (new TextEncoder().encode(key).length > MAX_KEY_BYTES)
      throw new Error('put: The specified object name is not valid. (10020)');
    if (options !== undefined && createHash('sha256').update(bytes).digest('hex') !== options.sha256)
      throw new Error('put: The SHA-256 checksum you specified did not match what we received. (10037)');
    if (this.#now() - (this.#writtenAt.get(key) ?? -Infinity) < WRITE_INTERVAL_MS)
      throw new Error('put: Reduce your concurrent request rate for the same object. (10058)');
    this.#writtenAt.set(key, this.#now());
    this.objects.set(key, bytes);
  };

  readonly delete: ObjectBucket['delete'] = async (keys) => {
    const all = typeof keys === 'string' ? [keys] : keys;
    if (all.length > MAX_KEYS_A_DELETION) throw new Error('delete: Too many keys. (10052)');
    for (const key of all) this.objects.delete(key);
  };
}
