/** Several who send the same adapter at once, senders that are gone, and adapters that are let go of in the middle. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openAdapterStore, type AdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';
import type { DiskRefusal } from '../../../gpu-origin/adapter-files/disk-room.ts';
import type { BlobRecord } from '../../../protocol/adapter-manifest.ts';
import { gate } from '../engine/harness.ts';

const sha = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const FILE = Uint8Array.from({ length: 60 }, (_, at) => (at * 31) % 251);
const PARTS = [FILE.slice(0, 30), FILE.slice(30)] as const;
const DIGEST = sha(FILE);
const RECORD: BlobRecord = {
  bytes: FILE.length,
  parts: PARTS.map((part) => ({ bytes: part.length, sha256: sha(part) })),
};
const STORED = { ok: true, value: 'stored' };
const NOT_FOUND = { ok: false, error: { code: 'not_found' } };

let folder: string;
let time: number;
/** Called whenever the store asks for the time. */
let onTime: () => void;
let free: () => Promise<number>;
const refusals: DiskRefusal[] = [];
let store: AdapterStore;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'graft-senders-'));
  time = Date.now();
  onTime = () => undefined;
  free = () => Promise.resolve(1e12);
  refusals.length = 0;
  store = await openAdapterStore({
    ...{ folder, budgetBytes: 10_000, isInUse: () => false },
    now() {
      onTime();
      return time;
    },
    freeBytes: () => free(),
    onDiskRefusal: (refusal) => refusals.push(refusal),
  });
});
afterEach(() => {
  expect(refusals).toEqual([]);
  expect(store.disk()).toMatchObject({ refusing: false, refusals: 0 });
  rmSync(folder, { recursive: true, force: true });
});

async function* whole(part: Uint8Array): AsyncGenerator<Uint8Array> {
  yield part;
}
/** A body whose rest waits for `rest`; `begun` opens once its beginning was taken. */
function slow(part: Uint8Array) {
  const [begun, rest] = [gate(), gate()];
  async function* body(): AsyncGenerator<Uint8Array> {
    yield part.slice(0, 10);
    begun.open();
    await rest.opened;
    yield part.slice(10);
  }
  return { body: body(), begun: begun.opened, rest };
}
const files = (): string[] =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => name);
async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

it('accepts a part from the next sender when the first one is gone', async () => {
  await store.declare(DIGEST, RECORD);
  const { body, begun, rest } = slow(PARTS[0]);
  const first = store.putPart(DIGEST, 0, body);
  await begun;
  time += 4_000;
  expect(await store.putPart(DIGEST, 0, whole(PARTS[0]))).toEqual({ ok: true, value: 'receiving' });
  // Its connection is open for minutes still.
  time += 5_000;
  expect(await store.status(DIGEST)).toBe('missing');
  expect(await store.declare(DIGEST, RECORD)).toMatchObject({ value: { missingParts: [0, 1] } });
  for (const [index, part] of PARTS.entries())
    expect(await store.putPart(DIGEST, index, whole(part))).toEqual(STORED);
  rest.open();
  expect(await first).toEqual({ ok: true, value: 'held' });
  expect(await store.read(DIGEST)).toEqual(FILE);
  expect(files()).toEqual([DIGEST]);
});

it('a replaced sender that continues changes nothing', async () => {
  await store.declare(DIGEST, RECORD);
  const [one, two] = [slow(PARTS[0]), slow(PARTS[0])];
  const first = store.putPart(DIGEST, 0, one.body);
  await one.begun;
  time += 6_000;
  const second = store.putPart(DIGEST, 0, two.body);
  await two.begun;
  one.rest.open();
  expect(await first).toMatchObject({ ok: false, error: { reason: 'part_cut' } });
  expect(await store.putPart(DIGEST, 0, whole(PARTS[0]))).toEqual({ ok: true, value: 'receiving' });
  two.rest.open();
  expect(await second).toEqual(STORED);
  expect(await store.putPart(DIGEST, 1, whole(PARTS[1]))).toEqual(STORED);
  expect(await store.read(DIGEST)).toEqual(FILE);
});

it('has the folder ready for every sender that knows the wanted parts', async () => {
  const disk = gate();
  let asked = 0;
  free = async () => {
    asked += 1;
    if (asked === 1) await disk.opened;
    return 1e12;
  };
  const first = store.declare(DIGEST, RECORD);
  const second = store.declare(DIGEST, RECORD).then(() => store.putPart(DIGEST, 0, whole(PARTS[0])));
  await turns(200);
  disk.open();
  expect(await first).toMatchObject({ ok: true });
  expect(await second).toEqual(STORED);
  expect(await store.putPart(DIGEST, 1, whole(PARTS[1]))).toEqual(STORED);
  expect(await store.read(DIGEST)).toEqual(FILE);
});

it('drops an adapter within a part, without blaming the disk', async () => {
  await store.declare(DIGEST, RECORD);
  const { body, begun, rest } = slow(PARTS[0]);
  const first = store.putPart(DIGEST, 0, body);
  await begun;
  expect(await store.drop(DIGEST)).toBe(true);
  rest.open();
  expect(await first).toMatchObject(NOT_FOUND);
  expect(files()).toEqual([]);
  await store.declare(DIGEST, RECORD);
  for (const [index, part] of PARTS.entries()) await store.putPart(DIGEST, index, whole(part));
  expect(await store.read(DIGEST)).toEqual(FILE);
});

it('leaves no file behind when the last part arrives as the adapter is dropped', async () => {
  await store.declare(DIGEST, RECORD);
  await store.putPart(DIGEST, 0, whole(PARTS[0]));
  let dropped: Promise<boolean> | null = null;
  async function* last(): AsyncGenerator<Uint8Array> {
    yield PARTS[1];
    // The next thing that the store does is to note that the part is here.
    onTime = () => (dropped ??= store.drop(DIGEST));
  }
  expect(await store.putPart(DIGEST, 1, last())).toMatchObject(NOT_FOUND);
  expect(await dropped).toBe(true);
  expect(await store.status(DIGEST)).toBe('missing');
  expect(files()).toEqual([]);
});
