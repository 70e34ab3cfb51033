import { readFile } from 'node:fs/promises';

/** Children of this process, and theirs, of this name. */
export async function processesNamed(name: string): Promise<number[]> {
  const found: number[] = [];
  const look = async (pid: number): Promise<void> => {
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    for (const child of children.split(' ').filter(Boolean).map(Number)) {
      const comm = await readFile(`/proc/${child}/comm`, 'utf8').catch(() => '');
      if (comm.trim() === name) found.push(child);
      await look(child);
    }
  };
  await look(process.pid);
  return found;
}
