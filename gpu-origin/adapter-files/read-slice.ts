import { open, type FileHandle } from 'node:fs/promises';

/** @returns bytes `begin` to `end` of a file, fewer where it ends before; null when there is no such file. */
export async function readSlice(
  path: string,
  begin: number,
  end: number,
): Promise<Uint8Array<ArrayBuffer> | null> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const bytes = new Uint8Array(end - begin);
    let done = 0;
    while (done < bytes.length) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, begin + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return bytes.subarray(0, done);
  } finally {
    await file.close();
  }
}
