/** What `open` and `use` have stored in the page's private file system: below one folder, by every model of this page's origin. */

/** Also of the worker's folders. */
const FOLDER = 'graft';
/** Under which bases and adapters are fetched: nobody removes them in the middle. */
const LOCKS = ['graft-base', 'graft-adapters'];

/** Bytes of bases and adapters; 0 where nothing is stored, or nothing can be. */
export async function storedBytes(): Promise<number> {
  try {
    const root = await navigator.storage.getDirectory();
    return await bytesIn(await root.getDirectoryHandle(FOLDER));
  } catch {
    return 0;
  }
}

async function bytesIn(folder: FileSystemDirectoryHandle): Promise<number> {
  let bytes = 0;
  for await (const entry of folder.values())
    bytes += entry.kind === 'directory' ? await bytesIn(entry) : (await entry.getFile()).size;
  return bytes;
}

/** Removes all of it; the next opening fetches the base again. Close models first: they read what they stand on. */
export async function removeStored(): Promise<void> {
  const remove = async (): Promise<void> => {
    const root = await navigator.storage.getDirectory();
    await root.removeEntry(FOLDER, { recursive: true }).catch((error: unknown) => {
      if (!(error instanceof DOMException) || error.name !== 'NotFoundError') throw error;
    });
  };
  await LOCKS.reduce<() => Promise<void>>(
    (inner, lock) => async () => void (await navigator.locks.request(lock, inner)),
    remove,
  )();
}
