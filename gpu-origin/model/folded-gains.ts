/** The gains that lie folded in the weights, as a file: what adapters are transformed with, without the base itself. */
import { parseSafetensors, toFloat32, writeSafetensors } from '../../adapters/index.ts';
import { type BaseModel, BaseModelError } from './base-model.ts';
import { FINAL_NORM, foldsGains, mlpNorm } from './prepare-weights.ts';

/** @returns a safetensors file of norms under Hugging Face's names; empty where none is folded. */
export function writeFoldedGains(base: BaseModel): Uint8Array<ArrayBuffer> {
  const { config } = base;
  const paths = ['input_layernorm', mlpNorm(config)];
  const names = Array.from({ length: config.layers }, (_, layer) =>
    paths.map((path) => `model.layers.${layer}.${path}.weight`),
  );
  const shape = [config.hidden];
  const tensors = (foldsGains(config) ? [...names.flat(), FINAL_NORM] : []).map((name) => {
    const data = new Uint8Array(base.tensor(name, shape).buffer);
    return [name, { dtype: 'F32' as const, shape, data }] as const;
  });
  return writeSafetensors({ tensors: new Map(tensors), metadata: new Map() });
}

/** @returns the base as far as its norms go. @throws BaseModelError for any other tensor. */
export function readFoldedGains(
  file: Uint8Array<ArrayBuffer>,
  base: Pick<BaseModel, 'id' | 'digest' | 'config'>,
): BaseModel {
  const { tensors } = parseSafetensors(file);
  return {
    ...base,
    tensor(name, shape) {
      const tensor = tensors.get(name);
      if (tensor === undefined || tensor.shape.join() !== shape.join())
        throw new BaseModelError(`${name} is not among the base's gains`);
      return toFloat32(tensor);
    },
    close: () => {},
  };
}
