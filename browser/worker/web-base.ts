/** The base's parts as stored files, read as if they were one. */
import type { ExternalData } from '../../gpu-origin/runtime/web/wasm-module.ts';
import type { WebBaseFile, WebBaseManifest } from '../../protocol/index.ts';

export class WebBase {
  readonly #reader = new FileReaderSync();
  /** Where each part begins, bytes. */
  readonly #starts: number[] = [];

  constructor(
    readonly manifest: WebBaseManifest,
    /** In the order of the manifest's. */
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

  /** For the runtime, which reads a tensor at a time: the whole would be in memory twice. */
  external(name: WebBaseFile): ExternalData {
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
