/**
 * The page's own file system (OPFS), for a worker, and downloads into it: a file is complete, or shorter than
 * its readers expect.
 */
import { GraftError, type Problem } from '../messages.ts';

/** The folder that the page's `removeStored` removes. */
const ROOT = 'graft';
const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6).toLocaleString('en')} MB`;

export class PrivateFolder {
  private constructor(
    private readonly name: string,
    private handle: FileSystemDirectoryHandle,
  ) {}

  /** Created if missing. @throws GraftError */
  static async open(name: string): Promise<PrivateFolder> {
    try {
      return new PrivateFolder(name, await folderOf(name));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = `This browser gives the page no storage (${reason}). Use https or localhost, and no private window.`;
      throw new GraftError({ code: 'storage_unavailable', message });
    }
  }

  /** @returns null if missing. */
  async file(name: string): Promise<File | null> {
    try {
      return await (await this.handle.getFileHandle(name)).getFile();
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  async names(): Promise<string[]> {
    try {
      return await this.#list();
    } catch (error) {
      if (!isMissing(error)) throw error;
      // Another page of this site has removed the storage, including this folder.
      this.handle = await folderOf(this.name);
      return this.#list();
    }
  }

  async #list(): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.handle.keys()) names.push(name);
    return names;
  }

  /** Replaces existing content. @throws GraftError `storage_full` */
  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.#fill(name, bytes).catch(async (error: unknown) => {
        if (!isMissing(error)) throw error;
        // Another page of this site has removed the storage, including this folder.
        this.handle = await folderOf(this.name);
        await this.#fill(name, bytes);
      });
    } catch (error) {
      await this.remove(name);
      if (!(error instanceof DOMException) || error.name !== 'QuotaExceededError') throw error;
      throw storageFull(bytes.length, null);
    }
  }

  async #fill(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const file = await this.handle.getFileHandle(name, { create: true });
    const access = await file.createSyncAccessHandle();
    try {
      access.truncate(0);
      if (access.write(bytes, { at: 0 }) < bytes.length) throw storageFull(bytes.length, null);
      access.flush();
    } finally {
      access.close();
    }
  }

  async remove(name: string): Promise<void> {
    await this.handle.removeEntry(name).catch(() => undefined);
  }
}

async function folderOf(name: string): Promise<FileSystemDirectoryHandle> {
  const root = await navigator.storage.getDirectory();
  const ours = await root.getDirectoryHandle(ROOT, { create: true });
  return ours.getDirectoryHandle(name, { create: true });
}

const isMissing = (error: unknown): boolean =>
  error instanceof DOMException && error.name === 'NotFoundError';

/** Bytes that the browser still lets this page store; null = unknown. */
export async function storageLeft(): Promise<number | null> {
  const { quota, usage } = await navigator.storage.estimate();
  return quota === undefined ? null : Math.max(0, quota - (usage ?? 0));
}

/** @param needed bytes. @param left bytes; null = unknown. */
export function storageFull(needed: number, left: number | null): GraftError {
  const room = left === null ? '' : `, and ${megabytes(left)} are left`;
  const message =
    `The browser's storage for this page is full: ${megabytes(needed)} more are needed${room}. Free disk ` +
    'space or remove what this site stores, and open the model again; the part that has arrived is kept.';
  return new GraftError({ code: 'storage_full', message });
}

/** Lower-case hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

/** Tries of one file, and the time between them, ms. */
const TRIES = 3;
const PAUSE_MS = 1_000;

/** A response that repeating will not change. */
export class Refused extends Error {
  constructor(readonly response: Response) {
    super(`${response.status} ${response.statusText}`.trim());
  }
}

/**
 * @param params.bytes exactly so many. @param params.check of all of them.
 * @param params.failed what is thrown once all tries are used up. @throws Refused for 4xx
 */
export async function fetchBytes(params: {
  request: () => Promise<Response>;
  bytes: number;
  check: (bytes: Uint8Array<ArrayBuffer>) => Promise<boolean>;
  onBytes: (done: number) => void;
  failed: (reason: string) => Problem;
  signal: AbortSignal;
}): Promise<Uint8Array<ArrayBuffer>> {
  const { request, bytes, check, onBytes, failed, signal } = params;
  let reason = '';
  for (let tries = 0; tries < TRIES; tries++) {
    signal.throwIfAborted();
    if (tries > 0) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS * tries));
    try {
      const response = await request();
      if (response.status >= 400 && response.status < 500) throw new Refused(response);
      if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
      const got = await readAll(response, bytes, onBytes);
      if (await check(got)) return got;
      reason = 'its sha256 does not match';
    } catch (error) {
      if (error instanceof Refused || signal.aborted) throw error;
      reason = error instanceof Error ? error.message : String(error);
    }
    onBytes(0);
  }
  throw new GraftError(failed(reason));
}

/** @throws Error when there are more or fewer. */
async function readAll(
  response: Response,
  bytes: number,
  onBytes: (done: number) => void,
): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(bytes);
  let done = 0;
  const reader = response.body!.getReader();
  for (;;) {
    const { value, done: ended } = await reader.read();
    if (ended) break;
    if (done + value.length > bytes) {
      await reader.cancel();
      throw new Error(`it has more than ${bytes} bytes`);
    }
    all.set(value, done);
    done += value.length;
    onBytes(done);
  }
  if (done < bytes) throw new Error(`it ended after ${done} of ${bytes} bytes`);
  return all;
}
