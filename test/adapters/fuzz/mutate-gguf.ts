/** Mutations of GGUF files, field by field, written anew afterwards; llama.cpp's `gguf.h` has the layout. */
import { join, mutateValues } from './mutate-bytes.ts';
import type { Random } from './random.ts';

interface Field {
  key: Uint8Array;
  type: number;
  /** As it stands in the file. */
  value: Uint8Array;
}

interface Entry {
  name: Uint8Array;
  sizes: bigint[];
  type: number;
  offset: bigint;
}

interface Gguf {
  version: number;
  fields: Field[];
  tensors: Entry[];
  data: Uint8Array;
}

const ALIGNMENT = 32;
const STRING = 8;
const ARRAY = 9;
/** Bytes of the fixed-size values, by gguf_metadata_value_type. */
const VALUE_BYTES: Readonly<Record<number, number>> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: bigint): Uint8Array => new Uint8Array(BigUint64Array.of(value).buffer);
const string = (bytes: Uint8Array): Uint8Array => join(u64(BigInt(bytes.length)), bytes);

/** @param bytes a valid file whose metadata has no arrays of strings or arrays. */
function parse(bytes: Uint8Array): Gguf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 8;
  const take = (count: number): Uint8Array => bytes.slice(at, (at += count));
  const int = (): number => view.getUint32((at += 4) - 4, true);
  const long = (): bigint => view.getBigUint64((at += 8) - 8, true);
  const text = (): Uint8Array => take(Number(long()));
  const [tensorCount, fieldCount] = [Number(long()), Number(long())];
  const array = (): Uint8Array => {
    const [type, count] = [int(), long()];
    return join(u32(type), u64(count), take(Number(count) * VALUE_BYTES[type]!));
  };
  const fields = Array.from({ length: fieldCount }, (): Field => {
    const [key, type] = [text(), int()];
    if (type === ARRAY) return { key, type, value: array() };
    return { key, type, value: type === STRING ? string(text()) : take(VALUE_BYTES[type]!) };
  });
  const tensors = Array.from({ length: tensorCount }, (): Entry => {
    const name = text();
    const sizes = Array.from({ length: int() }, long);
    return { name, sizes, type: int(), offset: long() };
  });
  return {
    version: view.getUint32(4, true),
    fields,
    tensors,
    data: bytes.slice(Math.ceil(at / ALIGNMENT) * ALIGNMENT),
  };
}

function print(file: Gguf, counts: { tensors: bigint; fields: bigint; dimensions: number }): Uint8Array {
  const head = join(
    utf8('GGUF'),
    u32(file.version),
    u64(counts.tensors),
    u64(counts.fields),
    ...file.fields.flatMap(({ key, type, value }) => [string(key), u32(type), value]),
    ...file.tensors.flatMap(({ name, sizes, type, offset }) => [
      string(name),
      u32(sizes.length + counts.dimensions),
      ...sizes.map(u64),
      u32(type),
      u64(offset),
    ]),
  );
  return join(head, new Uint8Array((ALIGNMENT - (head.length % ALIGNMENT)) % ALIGNMENT), file.data);
}

const LONGS = [
  0n,
  1n,
  2n,
  3n,
  31n,
  32n,
  33n,
  1n << 20n,
  1n << 31n,
  1n << 32n,
  1n << 53n,
  1n << 63n,
  (1n << 64n) - 1n,
];
const KEYS = [
  'general.architecture',
  'general.type',
  'general.alignment',
  'general.base_model.0.name',
  'general.base_model.0.repo_url',
  'adapter.type',
  'adapter.lora.alpha',
  'adapter.alora.invocation_tokens',
  '__proto__',
  '',
  'x'.repeat(70_000),
];
const TEXTS = [
  'llama',
  'qwen2',
  'bert',
  'adapter',
  'lora',
  'control_vector',
  'https://huggingface.co/a/b',
  '',
  '\0',
  'é\u202e',
];
const NAMES = [
  'blk.0.attn_q.weight.lora_a',
  'blk.0.attn_q.weight.lora_b',
  'blk.0.attn_k.weight.lora_a',
  'blk.0.ffn_gate_exps.weight.lora_a',
  'blk.99999.ffn_up.weight.lora_b',
  'token_embd.weight.lora_a',
  'output.weight',
  '.lora_a',
];

function anyValue(random: Random): { type: number; value: Uint8Array } {
  switch (random.below(5)) {
    case 0:
      return { type: STRING, value: string(utf8(random.pick(TEXTS))) };
    case 1:
      return { type: STRING, value: join(u64(random.pick(LONGS)), utf8('abc')) };
    case 2: {
      // An array of a type, of a claimed length, of what is there; nested ones too.
      const type = random.pick([0, 4, 6, STRING, ARRAY, 12, 13, 255]);
      const items = Array.from({ length: random.below(4) }, () => u32(random.below(300)));
      const claimed = random.chance(0.5) ? random.pick(LONGS) : BigInt(items.length);
      return { type: ARRAY, value: join(u32(type), u64(claimed), ...items) };
    }
    default: {
      const type = random.pick([0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 200]);
      const edge = new Uint8Array(8).fill(random.pick([0, 1, 0x20, 0x7f, 0x80, 0xff]));
      return { type, value: edge.slice(0, VALUE_BYTES[type] ?? 8) };
    }
  }
}

function mutateFields(file: Gguf, random: Random): void {
  const at = random.below(file.fields.length);
  const field = file.fields[at]!;
  const action = random.below(5);
  if (action === 0) file.fields.splice(at, 1);
  else if (action === 1) file.fields.push(field);
  else if (action === 2) file.fields[at] = { ...field, key: utf8(random.pick(KEYS)) };
  else if (action === 3) file.fields[at] = { ...field, ...anyValue(random) };
  else file.fields.push({ key: utf8(random.pick(KEYS)), ...anyValue(random) });
}

function mutateTensors(file: Gguf, random: Random): void {
  const at = random.below(file.tensors.length);
  const tensor = file.tensors[at]!;
  const dimension = random.below(tensor.sizes.length);
  const replaced: Entry = { ...tensor, sizes: [...tensor.sizes] };
  file.tensors[at] = replaced;
  switch (random.below(8)) {
    case 0:
      file.tensors.splice(at, 1);
      return;
    case 1:
      file.tensors.push(tensor);
      return;
    case 2:
      replaced.name = utf8(random.pick(NAMES));
      return;
    case 3:
      replaced.sizes[dimension] = random.pick(LONGS);
      return;
    case 4:
      if (random.chance(0.5)) replaced.sizes.push(random.pick(LONGS));
      else replaced.sizes.pop();
      return;
    case 5:
      replaced.type = random.pick([0, 1, 2, 8, 12, 24, 28, 30, 41, 99, 0xffffffff]);
      return;
    case 6:
      replaced.offset = random.chance(0.5)
        ? random.pick(LONGS)
        : BigInt.asUintN(64, tensor.offset + BigInt(random.pick([-32, -1, 1, 32])));
      return;
    default:
      replaced.sizes.reverse();
  }
}

const BYTES_OF_TYPE: Readonly<Record<number, number>> = { 0: 4, 1: 2, 30: 2 };

/** Puts the tensors one after the other again, as their types and sizes say, where those are small. */
function layOut(file: Gguf): void {
  let at = 0;
  for (const tensor of file.tensors) {
    tensor.offset = BigInt(at);
    const elements = Number(tensor.sizes.reduce((product, size) => product * size, 1n));
    const bytes = elements * (BYTES_OF_TYPE[tensor.type] ?? 4);
    at += Math.ceil(Math.min(bytes, 1 << 16) / ALIGNMENT) * ALIGNMENT;
  }
  file.data = Uint8Array.from({ length: at }, (_, i) => file.data[i % Math.max(1, file.data.length)] ?? 0);
}

/** @param bytes a valid file. */
export function mutateGguf(bytes: Uint8Array, random: Random): Uint8Array {
  const file = parse(bytes);
  for (let count = random.chance(0.1) ? 0 : 1 + random.below(3); count > 0; count--)
    if (file.tensors.length === 0 || (random.chance(0.5) && file.fields.length > 0))
      mutateFields(file, random);
    else if (file.tensors.length > 0) mutateTensors(file, random);
  if (random.chance(0.05)) file.version = random.pick([0, 1, 2, 4, 0x03000000, 0xffffffff]);
  if (random.chance(0.5)) layOut(file);
  if (random.chance(0.2)) file.data = mutateValues(file.data, random);
  const off = (count: number): bigint => (random.chance(0.95) ? BigInt(count) : random.pick(LONGS));
  return print(file, {
    tensors: off(file.tensors.length),
    fields: off(file.fields.length),
    dimensions: random.chance(0.98) ? 0 : random.pick([1, 5, 1000, 0x7fffffff]),
  });
}
