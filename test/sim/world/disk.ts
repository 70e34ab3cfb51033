/** The file systems of origins, in memory, as `node:fs` and `node:fs/promises`; they outlive the origins' processes. */
import { posix as path } from 'node:path';
import { Readable, Writable } from 'node:stream';
import type { Surroundings } from './stores.ts';
import type { Life } from './time.ts';
import { stage } from './life-globals.ts';

interface File {
  bytes: Uint8Array<ArrayBuffer>;
  mtimeMs: number;
}

const failure = (code: string, call: string, where: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`${code}: simulated, ${call} '${where}'`), { code });

const BLOCK = 4_096;

export class SimDisk {
  readonly files = new Map<string, File>();
  /** Path -> when something in it was last added or taken away, unix ms. */
  readonly #folders = new Map<string, number>([['/', 0]]);
  readonly #around: Surroundings;
  readonly #name: string;
  readonly capacity: number;

  constructor(around: Surroundings, name: string, capacity: number) {
    this.#around = around;
    this.#name = name;
    this.capacity = capacity;
  }

  get free(): number {
    let used = 0;
    for (const { bytes } of this.files.values()) used += bytes.length;
    return Math.max(0, this.capacity - used);
  }

  /** Between two processes: something else deletes or damages a file. */
  decay(): void {
    const { random, faults } = this.#around;
    const names = [...this.files.keys()].filter((name) => /\/[0-9a-f]{64}$/.test(name)).sort();
    if (names.length === 0) return;
    if (faults.bites('disk-gone', this.#name)) this.files.delete(random.pick(names));
    if (faults.bites('disk-flip', this.#name)) {
      const file = this.files.get(random.pick(names));
      if (file !== undefined && file.bytes.length > 0) {
        const at = random.below(file.bytes.length);
        file.bytes[at] = (file.bytes[at] as number) ^ (1 << random.below(8));
      }
    }
  }

  /** The two modules, for one process. */
  modules(life: Life): { fs: Record<string, unknown>; promises: Record<string, unknown> } {
    const { time, random, faults } = this.#around;
    const now = (): number => time.now + life.skewMs;
    /** Does it after a moment; a process that ends before has not done it. */
    const op = <T>(work: () => T): Promise<T> =>
      new Promise((resolve, reject) => {
        time.after(life, random.below(3), () => {
          try {
            resolve(work());
          } catch (error) {
            reject(error as Error);
          }
        });
      });
    const fileAt = (call: string, where: string): File => {
      const file = this.files.get(where);
      if (file === undefined) throw failure('ENOENT', call, where);
      return file;
    };
    const room = (bytes: number, where: string): void => {
      if (bytes > this.free || faults.bites('disk-full', this.#name)) throw failure('ENOSPC', 'write', where);
    };
    const checkParent = (call: string, where: string): void => {
      if (!this.#folders.has(path.dirname(where))) throw failure('ENOENT', call, where);
    };
    /** Something in the folder above was added or taken away. */
    const touch = (where: string): void => {
      const above = path.dirname(where);
      if (this.#folders.has(above)) this.#folders.set(above, now());
    };
    const rename = (from: string, to: string): void => {
      const file = fileAt('rename', from);
      checkParent('rename', to);
      this.files.delete(from);
      this.files.set(to, file);
      touch(from);
      touch(to);
    };
    const createFile = (where: string, flag: string | undefined): File => {
      checkParent('open', where);
      if (flag === 'wx' && this.files.has(where)) throw failure('EEXIST', 'open', where);
      const file = { bytes: new Uint8Array(0), mtimeMs: now() };
      this.files.set(where, file);
      touch(where);
      return file;
    };
    const write = (file: File, where: string, bytes: Uint8Array): void => {
      room(bytes.length, where);
      const joined = new Uint8Array(file.bytes.length + bytes.length);
      joined.set(file.bytes);
      joined.set(bytes, file.bytes.length);
      file.bytes = joined;
      file.mtimeMs = now();
    };
    const promises = {
      mkdir: (where: string, { recursive = false }: { recursive?: boolean } = {}) =>
        op(() => {
          if (!recursive) checkParent('mkdir', where);
          for (let at = where; !this.#folders.has(at); at = path.dirname(at)) {
            this.#folders.set(at, now());
            touch(at);
          }
        }),
      readdir: (where: string) =>
        op(() => {
          if (!this.#folders.has(where)) throw failure('ENOENT', 'scandir', where);
          const names = [...this.files.keys(), ...this.#folders.keys()].filter(
            (name) => name !== where && path.dirname(name) === where,
          );
          return names.map((name) => path.basename(name)).sort();
        }),
      rm: (
        where: string,
        { recursive = false, force = false }: { recursive?: boolean; force?: boolean } = {},
      ) =>
        op(() => {
          const known = this.files.delete(where) || this.#folders.has(where);
          if (!known && !force) throw failure('ENOENT', 'rm', where);
          if (known) touch(where);
          if (!recursive) return;
          for (const name of [...this.files.keys()])
            if (name.startsWith(`${where}/`)) this.files.delete(name);
          for (const name of [...this.#folders.keys()])
            if (name === where || name.startsWith(`${where}/`)) this.#folders.delete(name);
        }),
      stat: (where: string) =>
        op(() => {
          const changedAt = this.#folders.get(where);
          if (changedAt !== undefined) return { size: 0, mtimeMs: changedAt };
          const { bytes, mtimeMs } = fileAt('stat', where);
          return { size: bytes.length, mtimeMs };
        }),
      utimes: (where: string, _accessed: number, modified: number) =>
        op(() => {
          fileAt('utime', where).mtimeMs = modified * 1_000;
        }),
      writeFile: (where: string, data: string | Uint8Array, { flag }: { flag?: string } = {}) =>
        op(() => {
          write(createFile(where, flag), where, typeof data === 'string' ? Buffer.from(data) : data);
        }),
      readFile: (where: string, how?: string) =>
        op(() => {
          const { bytes } = fileAt('open', where);
          return how === undefined ? Buffer.from(bytes) : Buffer.from(bytes).toString('utf8');
        }),
      appendFile: (where: string, data: string) =>
        op(() => write(this.files.get(where) ?? createFile(where, 'a'), where, Buffer.from(data))),
      chmod: (where: string) =>
        op(() => {
          if (!this.#folders.has(where)) fileAt('chmod', where);
        }),
      rename: (from: string, to: string) => op(() => rename(from, to)),
      statfs: () => op(() => ({ bavail: Math.floor(this.free / BLOCK), bsize: BLOCK })),
      open: (where: string, flags: string) =>
        op(() => {
          const file = flags === 'r' ? fileAt('open', where) : createFile(where, flags);
          return {
            write: (bytes: Uint8Array, from = 0, length = bytes.length - from) =>
              op(() => {
                write(file, where, bytes.subarray(from, from + length));
                return { bytesWritten: length };
              }),
            read: (into: Uint8Array, offset: number, length: number, position: number) =>
              op(() => {
                const part = file.bytes.subarray(position, position + length);
                into.set(part, offset);
                return { bytesRead: part.length };
              }),
            stat: () => op(() => ({ size: file.bytes.length, mtimeMs: file.mtimeMs })),
            sync: () => op(() => undefined),
            close: () => op(() => undefined),
          };
        }),
    };
    const fs = {
      promises,
      renameSync: rename,
      existsSync: (where: string) => this.files.has(where) || this.#folders.has(where),
      /** @param how.end the last byte, included. */
      createReadStream: (
        where: string,
        { start = 0, end = Infinity }: { start?: number; end?: number } = {},
      ) =>
        Readable.from(
          (async function* () {
            const bytes = ((await promises.readFile(where)) as Buffer).subarray(start, end + 1);
            for (let at = 0; at < bytes.length; at += BLOCK) yield bytes.subarray(at, at + BLOCK);
          })(),
          { objectMode: false },
        ),
      createWriteStream(where: string, { flags }: { flags?: string } = {}) {
        let file: Promise<File> | null = null;
        return new Writable({
          write(chunk: Uint8Array, _encoding, done) {
            file ??= op(() => createFile(where, flags));
            file.then((opened) => op(() => write(opened, where, chunk))).then(() => done(), done);
          },
        });
      },
    };
    return { fs, promises };
  }
}

const disks = new WeakMap<Life, ReturnType<SimDisk['modules']>>();

/** Gives a process its disk. */
export const mount = (life: Life, disk: SimDisk): void => void disks.set(life, disk.modules(life));

/** The two modules, of whichever process runs. */
export function mountedModules(): { fs: object; promises: object } {
  const of = (kind: 'fs' | 'promises') =>
    new Proxy(
      {},
      {
        get:
          (_target, name) =>
          (...given: unknown[]) => {
            const life = stage.time?.current;
            const call = life == null ? undefined : disks.get(life)?.[kind][String(name)];
            if (typeof call !== 'function') throw new Error(`node:fs ${String(name)} is not simulated`);
            return (call as (...given: unknown[]) => unknown)(...given);
          },
      },
    );
  return { fs: of('fs'), promises: of('promises') };
}
