/** The base: its manifest from the network if possible, its parts stored once and verified by their digests. */
import {
  WEB_BASE_MANIFEST,
  WebBaseManifest,
  webBasePartName,
  type WebBaseManifest as Manifest,
  type WebBaseFile,
} from '../../protocol/browser-downloads.ts';
import { GraftError, type Progress } from '../messages.ts';
import { fetchBytes, Refused, PrivateFolder, sha256, storageFull, storageLeft } from './stored-files.ts';

const EXPORT = 'write one with `graft base export --web`';

export interface FetchBaseParams {
  /** Folder of the manifest; ends with a slash. */
  url: string;
  onProgress: (progress: Progress) => void;
  signal: AbortSignal;
}

/** Two pages that open at once download it once. @throws GraftError */
export const fetchBase = (params: FetchBaseParams): Promise<WebBase> =>
  navigator.locks.request('graft-base', { signal: params.signal }, () => fetchAlone(params));

async function fetchAlone({ url, onProgress, signal }: FetchBaseParams): Promise<WebBase> {
  const manifests = await PrivateFolder.open('manifests');
  const stored = await PrivateFolder.open('parts');
  const key = `${await sha256(new TextEncoder().encode(url))}.json`;
  const { manifest, text } = await findManifest(url, await manifests.file(key), signal);
  const files = new Map<string, Blob>();
  const total = manifest.parts.reduce((sum, { bytes }) => sum + bytes, 0);
  let checked = 0;
  for (const part of manifest.parts) {
    const file = await stored.file(webBasePartName(part.sha256));
    checked += part.bytes;
    if (file === null || !(await holds(file, part))) continue;
    files.set(part.sha256, file);
    onProgress({ stage: 'check', done: checked, total });
  }
  const missing = manifest.parts.filter(({ sha256: digest }) => !files.has(digest));
  const needed = missing.reduce((sum, { bytes }) => sum + bytes, 0);
  const left = await storageLeft();
  if (left !== null && needed > left) throw storageFull(needed, left);
  let done = total - needed;
  // Before the first byte, which may take long.
  if (missing.length > 0) onProgress({ stage: 'base', done, total });
  for (const part of missing) {
    const bytes = await fetchPart(url, part, signal, (came) =>
      onProgress({ stage: 'base', done: done + came, total }),
    );
    await stored.write(webBasePartName(part.sha256), bytes);
    files.set(part.sha256, (await stored.file(webBasePartName(part.sha256)))!);
    done += part.bytes;
  }
  await manifests.write(key, new TextEncoder().encode(text));
  await removeOthers(manifests, stored);
  return new WebBase(
    manifest,
    manifest.parts.map(({ sha256: digest }) => files.get(digest)!),
  );
}

/** Bytes of a stored file, read on demand. */
export interface StoredBytes {
  readonly byteLength: number;
  subarray(begin: number, end: number): Uint8Array<ArrayBuffer>;
}

/** The stored one if the network is unavailable. @throws GraftError */
async function findManifest(
  url: string,
  stored: File | null,
  signal: AbortSignal,
): Promise<{ manifest: Manifest; text: string }> {
  const address = new URL(WEB_BASE_MANIFEST, url).href;
  let text: string;
  try {
    const response = await fetch(address, { cache: 'no-cache', signal });
    if (response.status >= 400 && response.status < 500)
      throw new GraftError({
        code: 'base_missing',
        message: `There is no base at ${address} (${response.status}): ${EXPORT}.`,
      });
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    text = await response.text();
  } catch (error) {
    if (error instanceof GraftError || signal.aborted) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const message =
      `The base at ${address} cannot be reached (${reason}), and is not stored here yet. If this page ` +
      "has another origin, the base's server must allow it (CORS).";
    if (stored === null) throw new GraftError({ code: 'base_unreachable', message });
    text = await stored.text();
  }
  const parsed = WebBaseManifest.safeParse(jsonOf(text));
  if (parsed.success) return { manifest: parsed.data, text };
  const message = `${address} is not a manifest that this version of graft can read: ${EXPORT}.`;
  throw new GraftError({ code: 'base_missing', message });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function holds(file: Blob, { bytes, sha256: digest }: Manifest['parts'][number]): Promise<boolean> {
  return file.size === bytes && (await sha256(new Uint8Array(await file.arrayBuffer()))) === digest;
}

async function fetchPart(
  url: string,
  part: Manifest['parts'][number],
  signal: AbortSignal,
  onBytes: (came: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const address = new URL(webBasePartName(part.sha256), url).href;
  try {
    return await fetchBytes({
      // Stored by us: the browser's own cache would be a second copy.
      request: () => fetch(address, { cache: 'no-store', signal }),
      bytes: part.bytes,
      check: async (bytes) => (await sha256(bytes)) === part.sha256,
      onBytes,
      failed: (reason) => ({
        code: reason.includes('sha256') ? 'base_damaged' : 'base_unreachable',
        message:
          `${address} cannot be downloaded: ${reason}. The part that has arrived is kept; open the model ` +
          'again to continue.',
      }),
      signal,
    });
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const message = `${address} is missing (${error.message}). Export the base again.`;
    throw new GraftError({ code: 'base_missing', message });
  }
}

/** Parts that no stored manifest names: of earlier bases. */
async function removeOthers(manifests: PrivateFolder, parts: PrivateFolder): Promise<void> {
  const kept = new Set<string>();
  for (const name of await manifests.names()) {
    const manifest = WebBaseManifest.safeParse(jsonOf((await (await manifests.file(name))?.text()) ?? ''));
    if (manifest.success)
      for (const { sha256: digest } of manifest.data.parts) kept.add(webBasePartName(digest));
  }
  for (const name of await parts.names()) if (!kept.has(name)) await parts.remove(name);
}

export class WebBase {
  readonly #reader = new FileReaderSync();
  /** Start of each part, bytes. */
  readonly #starts: number[] = [];

  constructor(
    readonly manifest: WebBaseManifest,
    /** In the manifest's order. */
    private readonly parts: readonly Blob[],
  ) {
    let at = 0;
    for (const { size } of parts) {
      this.#starts.push(at);
      at += size;
    }
  }

  file(name: WebBaseFile): Uint8Array<ArrayBuffer> {
    const { offset, bytes } = this.#place(name);
    return this.#read(offset, offset + bytes);
  }

  text(name: WebBaseFile): string {
    return new TextDecoder().decode(this.file(name));
  }

  /** For the runtime, which reads tensor by tensor: the whole would be in memory twice. */
  external(name: WebBaseFile): StoredBytes {
    const { offset, bytes } = this.#place(name);
    return { byteLength: bytes, subarray: (begin, end) => this.#read(offset + begin, offset + end) };
  }

  #place(name: WebBaseFile): { offset: number; bytes: number } {
    return this.manifest.files[name];
  }

  #read(begin: number, end: number): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(end - begin);
    this.parts.forEach((part, index) => {
      const start = this.#starts[index]!;
      const from = Math.max(begin, start);
      const to = Math.min(end, start + part.size);
      if (from >= to) return;
      const bytes = this.#reader.readAsArrayBuffer(part.slice(from - start, to - start));
      all.set(new Uint8Array(bytes), from - begin);
    });
    return all;
  }
}
