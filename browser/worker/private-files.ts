/** The page's own file system (OPFS), for a worker: files are whole, or shorter than who reads them expects. */
import { GraftError } from '../errors.ts';

/** As `stored.ts` of the page's side removes it. */
const ROOT = 'graft';
const megabytes = (bytes: number): string => `${Math.ceil(bytes / 1e6).toLocaleString('en')} MB`;

export class PrivateFolder {
  private constructor(
    private readonly name: string,
    private handle: FileSystemDirectoryHandle,
  ) {}

  /** Made if it is not there. @throws GraftError */
  static async open(name: string): Promise<PrivateFolder> {
    try {
      return new PrivateFolder(name, await folderOf(name));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const message = `This browser gives the page no storage (${reason}). It needs https or localhost, and no private window.`;
      throw new GraftError({ code: 'storage_unavailable', message });
    }
  }

  /** @returns null when it is not there. */
  async file(name: string): Promise<File | null> {
    try {
      return await (await this.handle.getFileHandle(name)).getFile();
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  }

  async names(): Promise<string[]> {
    const names: string[] = [];
    for await (const name of this.handle.keys()) names.push(name);
    return names;
  }

  /** In place of what is there. @throws GraftError `storage_full` */
  async write(name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    try {
      await this.#fill(name, bytes).catch(async (error: unknown) => {
        if (!isMissing(error)) throw error;
        // Another page of this site has removed what is stored, this folder with it.
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

/** Bytes that the browser still lets this page store; null = it does not say. */
export async function storageLeft(): Promise<number | null> {
  const { quota, usage } = await navigator.storage.estimate();
  return quota === undefined ? null : Math.max(0, quota - (usage ?? 0));
}

/** @param needed bytes. @param left bytes; null = unknown. */
export function storageFull(needed: number, left: number | null): GraftError {
  const room = left === null ? '' : `, and ${megabytes(left)} are left`;
  const message = `The browser's storage for this page is full: ${megabytes(needed)} more are needed${room}. Free space on the disk, or remove what this site stores, and open it again; what has arrived is kept.`;
  return new GraftError({ code: 'storage_full', message });
}

/** Lower-case hex. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}
