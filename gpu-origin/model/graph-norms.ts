/** The norms of a layer, with the gains that do not lie in the linears behind them. */
import type { LlamaConfig } from './base-model.ts';
import type { Precision } from './precision.ts';
import type { GraphTensors } from './graph-tensors.ts';
import { type GraphBuilder, MICROSOFT } from './onnx-proto.ts';
import { FINAL_NORM, foldsGains, gainName } from './prepare-weights.ts';

export class GraphNorms {
  constructor(
    private readonly params: {
      g: GraphBuilder;
      config: LlamaConfig;
      tensors: GraphTensors;
      /** Of what linears give. */
      precision: Precision;
      /** Of what layers add to. */
      streamPrecision: Precision;
    },
  ) {}

  /** The gain of the norm before a layer's attention or MLP, or of the last one: ones where it lies in the linears. */
  private gain(layer: number, path: string): string {
    const { config, tensors, streamPrecision } = this.params;
    const { hidden } = config;
    if (foldsGains(config))
      return tensors.constant(`ones.${hidden}`, streamPrecision, [hidden], new Float32Array(hidden).fill(1));
    return tensors.numbers(layer === config.layers ? FINAL_NORM : gainName(layer, path), streamPrecision);
  }

  private norm(x: string, gain: string, output: string): string {
    const { g, config } = this.params;
    const attributes = { axis: -1, epsilon: { float: config.rmsEpsilon }, stash_type: 1 };
    return g.node('SimplifiedLayerNormalization', [x, gain], output, attributes);
  }

  /** The embedding, normalized before the first layer. */
  first(x: string, output: string): string {
    return this.norm(x, this.gain(0, 'input_layernorm'), output);
  }

  /** Each head of q or k, normalized by itself. */
  ofHeads(x: string, layer: number, kind: 'q' | 'k', heads: number): string {
    const { g, config, tensors, precision } = this.params;
    const { headDim } = config;
    const name = `l${layer}.${kind}.heads`;
    g.node('Reshape', [x, tensors.sizes('shape', [0, 0, heads, headDim])], name);
    this.norm(name, tensors.numbers(gainName(layer, `self_attn.${kind}_norm`), precision), `${name}.n`);
    const whole = tensors.sizes('shape', [0, 0, heads * headDim]);
    return g.node('Reshape', [`${name}.n`, whole], `l${layer}.${kind}.normed`);
  }

  /** What attention or the MLP gives, as the stream takes it: normalized where the family does so before it is added. */
  after(y: string, layer: number, path: string): string {
    const { config, tensors, precision, streamPrecision } = this.params;
    const x = tensors.cast(y, precision, streamPrecision);
    if (!config.postNorms) return x;
    return this.norm(x, tensors.numbers(gainName(layer, path), streamPrecision), `l${layer}.${path}`);
  }

  /** The stream and what is added to it; normed for the layer's part of that norm. @param layer all of them: the last norm. */
  add(
    x: string,
    y: string,
    names: { normed: string; stream: string },
    { layer, path }: { layer: number; path: string },
  ): { h: string; x: string } {
    const { g, config } = this.params;
    const { normed, stream } = names;
    const epsilon = { epsilon: { float: config.rmsEpsilon } };
    const inputs = [x, y, this.gain(layer, path)];
    g.node('SkipSimplifiedLayerNormalization', inputs, [normed, '', '', stream], epsilon, MICROSOFT);
    return { h: normed, x: stream };
  }
}
