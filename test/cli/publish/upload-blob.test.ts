import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { uploadBlob } from '../../../cli/publish/upload-blob.ts';
import { splitParts } from '../../../protocol/adapter-manifest.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
/** Its header, whose length stands first, is empty. */
const FILE = Uint8Array.from({ length: 25 }, (_, i) => (i < 8 ? 0 : i));
const DIGEST = sha256(FILE);

/** The admin API's blob routes, in memory. */
class FakeEdge {
  readonly parts = new Map<number, Uint8Array>();
  readonly puts: number[] = [];
  complete = false;
  /** Parts that break off. */
  failing = new Set<number>();
  onCut = (): void => undefined;

  readonly fetch: typeof fetch = async (input, init) => {
    const url = new URL(String(input));
    const part = /\/parts\/(\d+)$/.exec(url.pathname);
    expect(url.pathname).toContain(DIGEST);
    if (part !== null) {
      const index = Number(part[1]);
      if (this.failing.has(index)) {
        this.onCut();
        throw new TypeError('connection reset');
      }
      const bytes = new Uint8Array(init?.body as Uint8Array<ArrayBuffer>);
      expect(url.searchParams.get('sha256')).toBe(sha256(bytes));
      this.puts.push(index);
      this.parts.set(index, bytes);
      return Response.json({});
    }
    if (init?.method === 'POST') {
      const record = JSON.parse(String(init.body)) as {
        bytes: number;
        parts: { bytes: number; sha256: string }[];
      };
      const whole = Buffer.concat(record.parts.map((_, index) => this.parts.get(index) as Uint8Array));
      expect(record.bytes).toBe(whole.length);
      expect(record.parts.map((one) => one.sha256)).toEqual(
        record.parts.map((_, index) => sha256(this.parts.get(index) as Uint8Array)),
      );
      expect(sha256(whole)).toBe(DIGEST);
      this.complete = true;
      return Response.json({}, { status: 201 });
    }
    const parts = [...this.parts].map(([index, bytes]) => ({
      index,
      bytes: bytes.length,
      sha256: sha256(bytes),
    }));
    const limits = { file_bytes: 1_000, part_bytes: 1_000, parts: 10, header_bytes: 1_000 };
    return Response.json({ digest: DIGEST, complete: this.complete, parts, limits });
  };

  upload(onProgress?: (done: number) => void) {
    const client = createApiClient({ url: 'http://edge', key: 'ga_x', fetchFn: this.fetch });
    return uploadBlob({
      client,
      digest: DIGEST,
      bytes: FILE,
      partBytes: 10,
      retrying: { sleep: async () => undefined },
      ...(onProgress ? { onProgress } : {}),
    });
  }
}

describe('splitParts', () => {
  it('covers the file without copying', () => {
    const parts = splitParts(FILE, 10);
    expect(parts.map((part) => part.length)).toEqual([10, 10, 5]);
    expect(parts[1]?.buffer).toBe(FILE.buffer);
    expect(splitParts(FILE, 25)).toHaveLength(1);
  });
});

describe('uploadBlob', () => {
  it('sends every part and completes the file', async () => {
    const edge = new FakeEdge();
    const progress: number[] = [];
    expect(await edge.upload((done) => progress.push(done))).toBe(25);
    expect(edge.complete).toBe(true);
    expect(progress[0]).toBe(0);
    expect(progress.at(-1)).toBe(25);
  });

  it('sends no part that is there', async () => {
    const edge = new FakeEdge();
    await edge.upload();
    edge.puts.length = 0;
    expect(await edge.upload()).toBe(0);
    expect(edge.puts).toEqual([]);
  });

  it('continues an interrupted upload', async () => {
    const edge = new FakeEdge();
    edge.failing.add(2);
    await expect(edge.upload()).rejects.toMatchObject({ code: 'no_answer' });
    expect(edge.complete).toBe(false);
    edge.failing.clear();
    edge.puts.length = 0;
    expect(await edge.upload()).toBe(5);
    expect(edge.puts).toEqual([2]);
    expect(edge.complete).toBe(true);
  });

  it('sends a part again after a cut connection', async () => {
    const edge = new FakeEdge();
    edge.failing.add(1);
    edge.onCut = () => edge.failing.clear();
    expect(await edge.upload()).toBe(25);
    expect([...edge.puts].sort()).toEqual([0, 1, 2]);
  });

  it('lets a part in flight arrive when another fails', async () => {
    const edge = new FakeEdge();
    edge.failing.add(0);
    await expect(edge.upload()).rejects.toMatchObject({ code: 'no_answer' });
    expect(edge.puts).toEqual([1, 2]);
  });

  it('sends a part again whose bytes differ', async () => {
    const edge = new FakeEdge();
    edge.parts.set(1, new Uint8Array(10));
    await edge.upload();
    expect([...edge.puts].sort()).toEqual([0, 1, 2]);
  });
});
