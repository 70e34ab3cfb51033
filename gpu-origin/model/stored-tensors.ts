/**
 * A base's tensors as they are stored, against those that its graphs use: one that nobody reads would be served wrong in
 * silence.
 */
import {
  type BaseModel,
  BaseModelError,
  LINEAR_KINDS,
  linearShape,
  type LlamaConfig,
  moduleName,
  storedLinears,
  storedShape,
} from './base-model.ts';
import { FINAL_NORM, keptGains, mlpNorm } from './prepare-weights.ts';

/** Rotary frequencies, which follow from the configuration; older Hugging Face checkpoints carry them. */
export const FREQUENCIES = /(?:^|\.)rotary_emb\.(?:inv_freq|cos_cached|sin_cached)$/;

const EMBEDDING = 'model.embed_tokens.weight';
export const HEAD = 'lm_head.weight';

/** @returns Hugging Face names of all that `prepareWeights` reads, as they are stored. */
export function neededTensors(config: LlamaConfig): Set<string> {
  const names = new Set([EMBEDDING, FINAL_NORM]);
  if (!config.tiedHead) names.add(HEAD);
  for (let layer = 0; layer < config.layers; layer++) {
    names.add(`model.layers.${layer}.input_layernorm.weight`);
    names.add(`model.layers.${layer}.${mlpNorm(config)}.weight`);
    for (const [path] of keptGains(config)) names.add(`model.layers.${layer}.${path}.weight`);
    for (const { name, kinds } of storedLinears(config, layer)) {
      names.add(`${name}.weight`);
      if (config.qkvBias && 'qkv'.includes(kinds[0]!)) names.add(`${name}.bias`);
    }
  }
  return names;
}

/**
 * @param stored names as the file has them.
 * @param storedName how the file calls a tensor of Hugging Face's.
 * @throws BaseModelError that names a tensor which would be left out.
 */
export function refuseUnused(
  stored: Iterable<string>,
  config: LlamaConfig,
  storedName: (name: string) => string = (name) => name,
): void {
  const needed = new Set([...neededTensors(config)].map(storedName));
  const unused = [...stored].filter((name) => !needed.has(name) && !FREQUENCIES.test(name));
  const [first] = unused;
  if (first === undefined) return;
  const more = unused.length === 1 ? '' : ` and ${unused.length - 1} more`;
  throw new BaseModelError(
    `the base has tensors that a plain ${config.family} model does not use (${first}${more}); served without them, ` +
      'its answers would be wrong',
  );
}

/**
 * `tie_word_embeddings` says that the head is the embedding; a head that was trained on its own and then saved beside
 * that setting (`modules_to_save: ["lm_head"]`, merged) is another one.
 * @throws BaseModelError when the file's head differs from its embedding.
 */
export function refuseOtherHead(base: Pick<BaseModel, 'config' | 'tensor'>): void {
  const shape = [base.config.vocab, base.config.hidden];
  const bytesOf = (name: string): Buffer => Buffer.from(base.tensor(name, shape).buffer);
  if (!bytesOf(HEAD).equals(bytesOf(EMBEDDING)))
    throw new BaseModelError(
      `config.json says that the head is the embedding (tie_word_embeddings), but ${HEAD} differs from ${EMBEDDING}. ` +
        'If the head was trained on its own, set tie_word_embeddings to false',
    );
}

/** The base with its fused linears (Phi-3) under the names of their parts: rows of q, k and v, of gate and up. */
export function splitFused(base: BaseModel): BaseModel {
  const { config } = base;
  if (!config.fused) return base;
  const parts = new Map<string, { stored: string; shape: number[]; begin: number; end: number }>();
  for (let layer = 0; layer < config.layers; layer++)
    for (const linear of storedLinears(config, layer)) {
      const whole = storedShape(config, linear);
      let row = 0;
      for (const kind of LINEAR_KINDS.filter((one) => linear.kinds.includes(one))) {
        const { out } = linearShape(config, kind);
        parts.set(`${moduleName(layer, kind)}.weight`, {
          stored: `${linear.name}.weight`,
          shape: [whole.out, whole.in],
          begin: row * whole.in,
          end: (row + out) * whole.in,
        });
        row += out;
      }
    }
  return {
    ...base,
    tensor(name, shape) {
      const part = parts.get(name);
      if (part === undefined) return base.tensor(name, shape);
      return base.tensor(part.stored, part.shape).slice(part.begin, part.end);
    },
  };
}
