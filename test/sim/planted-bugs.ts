/**
 * Ten bugs that a simulated world must find: each replaces one piece of the product's source while it is bundled, and
 * never on disk.
 */

/** A change of one file that makes the product wrong. */
interface PlantedBug {
  readonly id: string;
  /** What goes wrong, and what has to happen first. */
  readonly what: string;
  /** Below the checkout's root. */
  readonly file: string;
  /** Occurs exactly once in the file. */
  readonly find: string;
  readonly replace: string;
  /** A seed of 200 operations that finds it. */
  readonly seed: number;
}

export const PLANTED: readonly PlantedBug[] = [
  {
    id: 'lost-invalidation',
    what:
      'A key that KV refuses counts as written: both notes of it, in D1 and in the pointer writer, are struck off, and ' +
      'nothing repeats it. Needs a key that is revoked or gets an end while KV fails; it opens everything for good.',
    file: 'worker/registry/pointer-writer-object.ts',
    find: `    if (row !== null && row.revoked_at === null) await keys.put(hash, keyRecordOf(row));
    else await keys.revoke(hash);
`,
    replace: `    const lost = (): undefined => undefined;
    if (row !== null && row.revoked_at === null) await keys.put(hash, keyRecordOf(row)).catch(lost);
    else await keys.revoke(hash).catch(lost);
`,
    seed: 5,
  },
  {
    id: 'swapped-parts',
    what:
      'Two adapter files that are read from disk at the same time share a variable, and one request gets the weights ' +
      'of the other, after their hash was checked. Needs two loads at once.',
    file: 'gpu-origin/adapter-files/adapter-store.ts',
    find: `    await utimes(path, seconds, seconds).catch(() => undefined);
    return file;
`,
    replace: `    const shared = room as unknown as { read: Uint8Array<ArrayBuffer> };
    shared.read = file;
    await utimes(path, seconds, seconds).catch(() => undefined);
    return shared.read;
`,
    seed: 4,
  },
  {
    id: 'stale-cache-after-promote',
    what:
      'An isolate that did not make a change keeps what it has read of a name for an hour instead of a second. Needs ' +
      'a name that was asked for in one isolate and promoted, rolled back or removed through another.',
    file: 'worker/kv-caches.ts',
    find: `    ...before,
    absences: true,
`,
    replace: `    ...before,
    ttlMs: 3_600_000,
    absences: true,
`,
    seed: 12,
  },
  {
    id: 'missing-abort',
    what:
      'A row is not told that its client has left or its request was cancelled, and runs to its end. Needs clients ' +
      'that leave long answers, and a look at the rows of requests that nobody waits for.',
    file: 'gpu-origin/engine/sequence.ts',
    find: `    else request.signal?.addEventListener('abort', this.abort, { once: true });
`,
    replace: '',
    seed: 1,
  },
  {
    id: 'unsigned-value-believed',
    what:
      'A value in KV whose seal is wrong is taken for genuine. Needs somebody who writes names or keys into KV ' +
      'without the secret, or a value under another key.',
    file: 'worker/platform/kv-cache.ts',
    find: '  const opened = await sealer.open(key, text);\n',
    replace:
      '  const opened = (await sealer.open(key, text)) ?? { value: JSON.parse(text.slice(MAC_DIGITS + 1)) as unknown };\n',
    seed: 12,
  },
  {
    id: 'counter-not-transactional',
    what:
      'A counter of limits reads its state, lets others in, and writes: of two calls at once one is not counted. Needs ' +
      'requests of one limited key at the same time.',
    file: 'worker/metering/quota-counter-object.ts',
    find: '    const states = await this.#load(names);\n',
    replace: `    const states = structuredClone(await this.#load(names));
    await new Promise((resolve) => setTimeout(resolve, 1));
    for (const [i, name] of names.entries()) {
      const state = states[i];
      if (state != null) (await this.#read())?.set(name, state);
    }
`,
    seed: 1,
  },
  {
    id: 'slow-heartbeat',
    what:
      'An origin breaks the silence of a stream every 30 s, and the edge gives it up after 25 s. Needs a request that ' +
      'waits for its first token that long, behind others or a load.',
    file: 'gpu-origin/http/completions.ts',
    find: 'heartbeatMs: context.heartbeatMs ?? STREAM_HEARTBEAT_MS,',
    replace: 'heartbeatMs: 3 * (context.heartbeatMs ?? STREAM_HEARTBEAT_MS),',
    seed: 6,
  },
  {
    id: 'lease-not-given-back',
    what:
      'A request that is aborted keeps its hold on its adapters, which are never evicted again. Needs a client that ' +
      'leaves while its request waits for adapters or runs with them.',
    file: 'gpu-origin/engine/sequence.ts',
    find: '    this.lease?.release();\n',
    replace: "    if (params.state !== 'aborted') this.lease?.release();\n",
    seed: 2,
  },
  {
    id: 'replayed-nonce',
    what:
      'An origin takes a signature that was used before. Needs a request that arrives twice: the second one must be ' +
      'refused and run nothing.',
    file: 'gpu-origin/http/read-request.ts',
    find: "    if (this.expiries.has(nonce)) return 'seen';\n",
    replace: '',
    seed: 4,
  },
  {
    id: 'eviction-of-a-held-adapter',
    what:
      'An adapter that a single request holds may be evicted. Needs more adapters at once than their memory holds; ' +
      "the engine's loop ends by an exception, and its requests wait for their deadline.",
    file: 'gpu-origin/engine/adapters/adapter-cache.ts',
    find: '    else if (isHeld(entry)) this.#eviction.hold(entry.digest);\n',
    replace: '    else if (entry.references > 1 || entry.pinned) this.#eviction.hold(entry.digest);\n',
    seed: 3,
  },
];
