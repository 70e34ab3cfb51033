/** Against another writer of protocol buffers. */
import fc from 'fast-check';
import protobuf from 'protobufjs';
import { expect, it } from 'vitest';
import { ProtobufWriter } from '../../../gpu-origin/model/onnx-proto.ts';

const Message = protobuf
  .parse(
    `syntax = "proto2";
  message Inner { optional int64 a = 1; }
  message Outer { optional int64 i = 1; repeated int64 is = 2; optional float f = 3; optional bytes b = 4;
    optional string s = 5; repeated string ss = 6; optional Inner m = 7; repeated Inner ms = 20; }`,
    { keepCase: true },
  )
  .root.lookupType('Outer');

const int = fc.maxSafeInteger();

it('writes what protobufjs writes', () => {
  const outer = fc.record({
    ...{ i: int, is: fc.array(int), f: fc.float({ noNaN: true }), b: fc.uint8Array({ maxLength: 300 }) },
    ...{ s: fc.string({ unit: 'binary' }), ss: fc.array(fc.string()), a: int, as: fc.array(int) },
  });
  fc.assert(
    fc.property(outer, ({ i, is, f, b, s, ss, a, as }) => {
      const inner = (value: number): ProtobufWriter => new ProtobufWriter().integer(1, value);
      const written = new ProtobufWriter().integer(1, i).integers(2, is).float(3, f).bytes(4, b);
      written.text(5, s).texts(6, ss).message(7, inner(a)).messages(20, as.map(inner));
      const message = { i, is, f, b, s, ss, m: { a }, ms: as.map((value) => ({ a: value })) };
      expect(Buffer.from(written.finish())).toEqual(Buffer.from(Message.encode(message).finish()));
    }),
    { seed: 7 },
  );
});
