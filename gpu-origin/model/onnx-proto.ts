/**
 * The part of ONNX's protobuf schema that the graphs here use (field numbers from onnx/onnx.proto, IR version 8),
 * and a small builder over it.
 */
import protobuf from 'protobufjs';
import { DataType } from './graph-names.ts';

const SCHEMA = `
syntax = "proto2";
package onnx;
message StringStringEntryProto { optional string key = 1; optional string value = 2; }
message TensorProto {
  repeated int64 dims = 1; optional int32 data_type = 2; optional string name = 8; optional bytes raw_data = 9;
  repeated StringStringEntryProto external_data = 13; optional int32 data_location = 14;
}
message AttributeProto {
  optional string name = 1; optional float f = 2; optional int64 i = 3; optional bytes s = 4;
  repeated int64 ints = 8; optional int32 type = 20;
}
message NodeProto {
  repeated string input = 1; repeated string output = 2; optional string name = 3; optional string op_type = 4;
  repeated AttributeProto attribute = 5; optional string domain = 7;
}
message Dimension { optional int64 dim_value = 1; optional string dim_param = 2; }
message TensorShapeProto { repeated Dimension dim = 1; }
message TensorTypeProto { optional int32 elem_type = 1; optional TensorShapeProto shape = 2; }
message TypeProto { optional TensorTypeProto tensor_type = 1; }
message ValueInfoProto { optional string name = 1; optional TypeProto type = 2; }
message GraphProto {
  repeated NodeProto node = 1; optional string name = 2; repeated TensorProto initializer = 5;
  repeated ValueInfoProto input = 11; repeated ValueInfoProto output = 12;
}
message OperatorSetIdProto { optional string domain = 1; optional int64 version = 2; }
message ModelProto {
  optional int64 ir_version = 1; optional string producer_name = 2; optional GraphProto graph = 7;
  repeated OperatorSetIdProto opset_import = 8;
}`;

const ModelProto = protobuf.parse(SCHEMA, { keepCase: true }).root.lookupType('onnx.ModelProto');

export { DataType };

/** A float attribute; a plain number is an integer attribute. */
export interface FloatAttribute {
  float: number;
}
export type Attribute = string | number | number[] | FloatAttribute;

const attributeProto = (name: string, value: Attribute): object => {
  if (typeof value === 'string') return { name, type: 3, s: new TextEncoder().encode(value) };
  if (typeof value === 'number') return { name, type: 2, i: value };
  if (Array.isArray(value)) return { name, type: 7, ints: value };
  return { name, type: 1, f: value.float };
};

const valueInfo = (name: string, type: DataType, shape: readonly (string | number)[]): object => ({
  name,
  type: {
    tensor_type: {
      elem_type: DataType[type],
      shape: {
        dim: shape.map((size) => (typeof size === 'string' ? { dim_param: size } : { dim_value: size })),
      },
    },
  },
});

/** Microsoft's operators: docs/ContribOperators.md in onnxruntime. */
export const MICROSOFT = 'com.microsoft';

export class GraphBuilder {
  private readonly nodes: object[] = [];
  private readonly initializers: object[] = [];
  private readonly inputs: object[] = [];
  private readonly outputs: object[] = [];
  private readonly known = new Set<string>();

  input(name: string, type: DataType, shape: readonly (string | number)[]): string {
    this.inputs.push(valueInfo(name, type, shape));
    return name;
  }

  output(name: string, type: DataType, shape: readonly (string | number)[]): void {
    this.outputs.push(valueInfo(name, type, shape));
  }

  /** @returns the first output's name. Empty output names leave optional outputs out. */
  node(
    type: string,
    inputs: readonly string[],
    outputs: string | readonly string[],
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): string {
    const output = typeof outputs === 'string' ? [outputs] : outputs;
    this.nodes.push({
      op_type: type,
      name: output[0],
      input: inputs,
      output,
      domain,
      attribute: Object.entries(attributes).map(([name, value]) => attributeProto(name, value)),
    });
    return output[0] as string;
  }

  /** A small tensor inside the graph. Repeating a name is free. */
  constant(name: string, type: DataType, dims: readonly number[], data: ArrayBufferView): string {
    if (this.known.has(name)) return name;
    this.known.add(name);
    const raw_data = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.initializers.push({ name, dims, data_type: DataType[type], raw_data });
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
    const external_data = Object.entries({
      location: params.file,
      offset: params.offset,
      length: params.bytes,
    }).map(([key, value]) => ({ key, value: String(value) }));
    this.initializers.push({
      name: params.name,
      dims: params.dims,
      data_type: DataType[params.type],
      external_data,
      data_location: 1,
    });
    return params.name;
  }

  /** @returns the serialized model, opset 17 and com.microsoft 1. */
  build(name: string): Uint8Array {
    const model = {
      ir_version: 8,
      producer_name: 'graft',
      opset_import: [
        { domain: '', version: 17 },
        { domain: MICROSOFT, version: 1 },
      ],
      graph: {
        name,
        node: this.nodes,
        initializer: this.initializers,
        input: this.inputs,
        output: this.outputs,
      },
    };
    return ModelProto.encode(ModelProto.create(model)).finish();
  }
}
