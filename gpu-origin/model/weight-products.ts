/** A stream times a weight of the base, in the format that it is served in. */
import { type GraphBuilder, MICROSOFT } from './onnx-proto.ts';
import type { GraphFlavour } from './graph-flavour.ts';
import type { Precision } from './precision.ts';
import type { GraphTensors } from './graph-tensors.ts';
import { formatOf, type WeightFormat } from './prepare-weights.ts';
import { BLOCK } from './quantize.ts';

/** Columns and rows of a weight `[N, K]`. */
export interface ProductShape {
  K: number;
  N: number;
}

/**
 * `MatMulNBits`' accuracy_level: x in int8 with a scale for each block of a row. With 1, float32, a row of a batch is
 * multiplied in another order than a row alone, and has other bits; the KL is the same.
 */
const INT8_ROWS = 4;

const blockProduct = (
  g: GraphBuilder,
  inputs: readonly string[],
  shape: ProductShape & { bits: 4 | 8 },
  output: string,
): string => {
  const attributes = { ...shape, block_size: BLOCK, accuracy_level: INT8_ROWS };
  return g.node('MatMulNBits', inputs, output, attributes, MICROSOFT);
};

/** x `[…, K]` times 4 bit weights, as `quantizeBlocks` gives them. @param inputs x, values, scales, zeros. */
export const int4Product = (
  g: GraphBuilder,
  inputs: readonly string[],
  shape: ProductShape,
  output: string,
): string => blockProduct(g, inputs, { ...shape, bits: 4 }, output);

export class WeightProducts {
  private readonly quantized = new Map<string, { values: string; max: string }>();

  constructor(
    private readonly params: {
      g: GraphBuilder;
      format: WeightFormat;
      flavour: GraphFlavour;
      tensors: GraphTensors;
    },
  ) {}

  /**
   * x -> u8 with one scale per row: round(x / max|row| * 127) + 128. Linears that share x share this. A row of zeros
   * becomes any numbers, and zeros again with its maximum.
   */
  private quantizeRows(x: string): { values: string; max: string } {
    const known = this.quantized.get(x);
    if (known !== undefined) return known;
    const { g } = this.params;
    const scale = g.constant('q.scale', 'f32', [], new Float32Array([1 / 127]));
    const zero = g.constant('q.zero', 'u8', [], new Uint8Array([128]));
    g.node('Abs', [x], `${x}.abs`);
    const max = g.node('ReduceMax', [`${x}.abs`], `${x}.max`, { axes: [-1], keepdims: 1 });
    g.node('Div', [x, max], `${x}.unit`);
    const values = g.node('QuantizeLinear', [`${x}.unit`, scale, zero], `${x}.u8`);
    const result = { values, max };
    this.quantized.set(x, result);
    return result;
  }

  /** x `[…, K]`, in a precision, times the weight of that name. */
  multiply(x: string, name: string, shape: ProductShape, precision: Precision, output: string): string {
    const { g, tensors } = this.params;
    const format = formatOf(name, this.params.format);
    if (format === 'f32') return g.node('MatMul', [x, tensors.numbers(`${name}.w`, precision)], output);
    if (format === 'int4') {
      const inputs = [
        tensors.weight(`${name}.w`),
        tensors.numbers(`${name}.s`, precision),
        tensors.weight(`${name}.z`),
      ];
      return int4Product(g, [x, ...inputs], shape, output);
    }
    if (this.params.flavour === 'gpu') {
      const inputs = [tensors.weight(`${name}.w`), tensors.numbers(`${name}.s`, precision)];
      return blockProduct(g, [x, ...inputs], { ...shape, bits: 8 }, output);
    }
    const { values, max } = this.quantizeRows(x);
    const inputs = [values, tensors.weight(`${name}.w`), 'q.scale', tensors.weight(`${name}.s`), 'q.zero'];
    const unit = g.node('MatMulIntegerToFloat', inputs, `${name}.unit`, {}, MICROSOFT);
    return g.node('Mul', [unit, max], output);
  }
}
