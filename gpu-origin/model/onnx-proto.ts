/**
 * ONNX models: a small builder over the messages that these graphs use, field numbers from onnx/onnx.proto, IR
 * version 8. It compiles no schema to code, which a page's policy forbids.
 */
import { DataType } from './base-model.ts';

/** A float attribute; a plain number is an integer attribute. */
interface FloatAttribute {
  float: number;
}
export type Attribute = string | number | number[] | FloatAttribute;

/** AttributeProto's types. */
const ATTRIBUTE = { float: 1, int: 2, string: 3, ints: 7 } as const;
const ATTRIBUTE_TYPE = 20;

/** AttributeProto: name 1, f 2, i 3, s 4, ints 8. */
function attributeProto(name: string, value: Attribute): ProtobufWriter {
  const proto = new ProtobufWriter().text(1, name);
  if (typeof value === 'string') return proto.text(4, value).integer(ATTRIBUTE_TYPE, ATTRIBUTE.string);
  if (typeof value === 'number') return proto.integer(3, value).integer(ATTRIBUTE_TYPE, ATTRIBUTE.int);
  if (Array.isArray(value)) return proto.integers(8, value).integer(ATTRIBUTE_TYPE, ATTRIBUTE.ints);
  return proto.float(2, value.float).integer(ATTRIBUTE_TYPE, ATTRIBUTE.float);
}

/** ValueInfoProto: name 1, type 2; TypeProto: tensor_type 1; its elem_type 1, shape 2; dim 1; dim_value 1, dim_param 2. */
function valueInfo(name: string, type: DataType, shape: readonly (string | number)[]): ProtobufWriter {
  const dims = shape.map((size) =>
    typeof size === 'string' ? new ProtobufWriter().text(2, size) : new ProtobufWriter().integer(1, size),
  );
  const tensor = new ProtobufWriter()
    .integer(1, DataType[type])
    .message(2, new ProtobufWriter().messages(1, dims));
  return new ProtobufWriter().text(1, name).message(2, new ProtobufWriter().message(1, tensor));
}

/** TensorProto: dims 1, data_type 2, name 8. */
const tensorProto = (name: string, type: DataType, dims: readonly number[]): ProtobufWriter =>
  new ProtobufWriter().integers(1, dims).integer(2, DataType[type]).text(8, name);

/** Microsoft's operators: docs/ContribOperators.md in onnxruntime. */
export const MICROSOFT = 'com.microsoft';

export class GraphBuilder {
  private readonly nodes: ProtobufWriter[] = [];
  private readonly initializers: ProtobufWriter[] = [];
  private readonly inputs: ProtobufWriter[] = [];
  private readonly outputs: ProtobufWriter[] = [];
  private readonly known = new Set<string>();

  input(name: string, type: DataType, shape: readonly (string | number)[]): string {
    this.inputs.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: DataType, shape: readonly (string | number)[]): void {
    this.outputs.push(valueInfo(name, type, shape));
  }

  /** @returns the first output's name. Empty output names omit optional outputs. */
  node(
    type: string,
    inputs: readonly string[],
    outputs: string | readonly string[],
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): string {
    const output = typeof outputs === 'string' ? [outputs] : outputs;
    // NodeProto: input 1, output 2, name 3, op_type 4, attribute 5, domain 7.
    const protos = Object.entries(attributes).map(([name, value]) => attributeProto(name, value));
    const node = new ProtobufWriter()
      .texts(1, inputs)
      .texts(2, output)
      .text(3, output[0] as string);
    this.nodes.push(node.text(4, type).messages(5, protos).text(7, domain));
    return output[0] as string;
  }

  /** A small tensor inside the graph. Repeating a name is free. */
  constant(name: string, type: DataType, dims: readonly number[], data: ArrayBufferView): string {
    if (this.known.has(name)) return name;
    this.known.add(name);
    const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    // raw_data 9
    this.initializers.push(tensorProto(name, type, dims).bytes(9, raw));
    return name;
  }

  /** A tensor in a file beside the graph. */
  external(params: {
    name: string;
    type: DataType;
    dims: readonly number[];
    file: string;
    offset: number;
    bytes: number;
  }): string {
    if (this.known.has(params.name)) return params.name;
    this.known.add(params.name);
    const { name, type, dims, file, offset, bytes } = params;
    // external_data 13, of StringStringEntryProto: key 1, value 2; data_location 14, where 1 is external.
    const entries = Object.entries({ location: file, offset, length: bytes }).map(([key, value]) =>
      new ProtobufWriter().text(1, key).text(2, String(value)),
    );
    this.initializers.push(tensorProto(name, type, dims).messages(13, entries).integer(14, 1));
    return params.name;
  }

  /** @returns the serialized model, opset 17 and com.microsoft 1. */
  build(name: string): Uint8Array<ArrayBuffer> {
    // GraphProto: node 1, name 2, initializer 5, input 11, output 12.
    const graph = new ProtobufWriter().messages(1, this.nodes).text(2, name);
    graph.messages(5, this.initializers).messages(11, this.inputs).messages(12, this.outputs);
    // ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8, of domain 1 and version 2.
    const opsets = Object.entries({ '': 17, [MICROSOFT]: 1 }).map(([domain, version]) =>
      new ProtobufWriter().text(1, domain).integer(2, version),
    );
    const model = new ProtobufWriter().integer(1, 8).text(2, 'graft');
    return model.message(7, graph).messages(8, opsets).finish();
  }
}

/** Wire types of protocol buffers: https://protobuf.dev/programming-guides/encoding. */
const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;

const utf8 = new TextEncoder();

/**
 * One message, with the features that ONNX's models need. Fields are written in the order of their numbers, as
 * other writers do; repeated ones are not packed.
 */
export class ProtobufWriter {
  private readonly chunks: Uint8Array[] = [];
  private length = 0;

  /** @param value int64 or an enum's; below zero it takes ten bytes. */
  integer(field: number, value: number): this {
    this.tag(field, VARINT);
    return this.varint(value);
  }

  integers(field: number, values: readonly number[]): this {
    for (const value of values) this.integer(field, value);
    return this;
  }

  float(field: number, value: number): this {
    this.tag(field, FIXED32);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.raw(bytes);
  }

  bytes(field: number, value: Uint8Array): this {
    this.tag(field, BYTES);
    this.varint(value.length);
    return this.raw(value);
  }

  text(field: number, value: string): this {
    return this.bytes(field, utf8.encode(value));
  }

  texts(field: number, values: readonly string[]): this {
    for (const value of values) this.text(field, value);
    return this;
  }

  message(field: number, value: ProtobufWriter): this {
    this.tag(field, BYTES);
    this.varint(value.length);
    for (const chunk of value.chunks) this.chunks.push(chunk);
    this.length += value.length;
    return this;
  }

  messages(field: number, values: readonly ProtobufWriter[]): this {
    for (const value of values) this.message(field, value);
    return this;
  }

  finish(): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(this.length);
    let at = 0;
    for (const chunk of this.chunks) {
      all.set(chunk, at);
      at += chunk.length;
    }
    return all;
  }

  private tag(field: number, wire: number): void {
    this.varint(8 * field + wire);
  }

  private varint(value: number): this {
    let rest = BigInt.asUintN(64, BigInt(value));
    const bytes: number[] = [];
    do {
      const low = Number(rest & 0x7fn);
      rest >>= 7n;
      bytes.push(rest > 0n ? low | 0x80 : low);
    } while (rest > 0n);
    return this.raw(Uint8Array.from(bytes));
  }

  private raw(bytes: Uint8Array): this {
    this.chunks.push(bytes);
    this.length += bytes.length;
    return this;
  }
}
