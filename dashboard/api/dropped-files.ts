/** Files of a drop: those that were dropped, and those in a folder that was. */

/** A folder of a training run has its checkpoints below it; the adapter itself is at the top or one below. */
const MAX_DEPTH = 2;

/** @returns files, in no order; what cannot be read is left out. */
export async function droppedFiles({ items, files }: DataTransfer): Promise<File[]> {
  // Entries are there until the event has been handled: all are taken before the first wait.
  const entries = [...items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...files];
  return (await Promise.all(entries.map((entry) => filesIn(entry, MAX_DEPTH)))).flat();
}

async function filesIn(entry: FileSystemEntry, depth: number): Promise<File[]> {
  if (entry.isFile)
    return new Promise((resolve) =>
      (entry as FileSystemFileEntry).file(
        (file) => resolve([file]),
        () => resolve([]),
      ),
    );
  if (depth === 0) return [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  // It tells some at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve) =>
      reader.readEntries(resolve, () => resolve([])),
    );
    if (some.length === 0) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((one) => filesIn(one, depth - 1)))).flat();
}
