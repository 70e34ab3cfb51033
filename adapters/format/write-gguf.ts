/** Writes GGUF version 3, as llama.cpp reads it. */
import { DEFAULT_ALIGNMENT, GGUF_MAGIC } from './gguf-container.ts';

const VERSION = 3;
/** gguf_metadata_value_type */
const VALUE_TYPES = { u32: 4, f32: 6, string: 8 } as const;

export type GgufField =
  | { readonly type: 'string'; readonly value: string }
  | { readonly type: 'u32' | 'f32'; readonly value: number };

export interface GgufTensorData {
  readonly name: string;
  /** Outermost first; stored innermost first. */
  readonly shape: readonly number[];
  /** ggml_type */
  readonly type: number;
  readonly data: Uint8Array;
}

/** Little-endian fields, one after the other. */
class FieldWriter {
  private readonly parts: Uint8Array[] = [];
  length = 0;
  push(bytes: Uint8Array): void {
    this.parts.push(bytes);
    this.length += bytes.byteLength;
  }
  private number(bytes: 4 | 8, set: (view: DataView) => void): void {
    const part = new Uint8Array(bytes);
    set(new DataView(part.buffer));
    this.push(part);
  }
  u32 = (value: number): void => this.number(4, (view) => view.setUint32(0, value, true));
  f32 = (value: number): void => this.number(4, (view) => view.setFloat32(0, value, true));
  u64 = (value: number): void => this.number(8, (view) => view.setBigUint64(0, BigInt(value), true));
  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.byteLength);
    this.push(bytes);
  }
  pad(alignment: number): void {
    this.push(new Uint8Array((alignment - (this.length % alignment)) % alignment));
  }
  concat(): Uint8Array<ArrayBuffer> {
    const out = new Uint8Array(this.length);
    let at = 0;
    for (const part of this.parts) {
      out.set(part, at);
      at += part.byteLength;
    }
    return out;
  }
}

/** Metadata and tensors in the order given; each tensor is padded to 32 bytes, the last one too. */
export function writeGguf(params: {
  metadata: ReadonlyMap<string, GgufField>;
  tensors: readonly GgufTensorData[];
}): Uint8Array<ArrayBuffer> {
  const out = new FieldWriter();
  out.u32(GGUF_MAGIC);
  out.u32(VERSION);
  out.u64(params.tensors.length);
  out.u64(params.metadata.size);
  for (const [key, field] of params.metadata) {
    out.string(key);
    out.u32(VALUE_TYPES[field.type]);
    if (field.type === 'string') out.string(field.value);
    else out[field.type](field.value);
  }
  let offset = 0;
  for (const { name, shape, type, data } of params.tensors) {
    out.string(name);
    out.u32(shape.length);
    for (const size of shape.toReversed()) out.u64(size);
    out.u32(type);
    out.u64(offset);
    offset += Math.ceil(data.byteLength / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT;
  }
  out.pad(DEFAULT_ALIGNMENT);
  for (const { data } of params.tensors) {
    out.push(data);
    out.pad(DEFAULT_ALIGNMENT);
  }
  return out.concat();
}
