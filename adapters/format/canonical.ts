/**
 * The canonical adapter file: one safetensors file with `<module>.lora_A` [rank, in] and `<module>.lora_B` [out, rank],
 * and the metadata entry `graft.config`. The same adapter always gives the same bytes, and its sha256 is its identity.
 */
import {
  checkPrefix,
  compare,
  CONFIG_KEY,
  encodeConfig,
  readModules,
  refuser,
  SUFFIX_A,
  SUFFIX_B,
  type CanonicalConfig,
} from './canonical-head.ts';
import { bytesAs, convertInto, type LoraDtype } from './convert-dtype.ts';
import type { Tensor } from './dtype.ts';
import { makeLoraModule, type LoraModule } from './lora-module.ts';
import { MAX_ADAPTER_TENSORS, parseSafetensors } from './safetensors.ts';
import { encodeSafetensorsPrefix, writeSafetensors, type TensorToMake } from './write-safetensors.ts';

export interface CanonicalAdapter {
  readonly config: CanonicalConfig;
  /** Sorted by name. Tensors are views into the file. */
  readonly modules: readonly LoraModule[];
}

function layout(
  base: string,
  parent: string | null,
  modules: readonly LoraModule[],
  dtype: LoraDtype | 'keep' = 'keep',
) {
  const tensors = new Map<string, Tensor | TensorToMake>();
  for (const module of modules)
    for (const [suffix, tensor] of [
      [SUFFIX_A, module.a],
      [SUFFIX_B, module.b],
    ] as const)
      tensors.set(
        module.name + suffix,
        dtype === 'keep' || dtype === tensor.dtype
          ? tensor
          : {
              dtype,
              shape: tensor.shape,
              byteLength: bytesAs(tensor, dtype),
              make: (target) => convertInto(tensor, dtype, target, module),
            },
      );
  return { metadata: new Map([[CONFIG_KEY, encodeConfig(base, parent, modules)]]), tensors };
}

/**
 * @param params.base base id. @param params.parent chain id or null.
 * @param params.modules in any order, no name twice.
 * @param params.dtype to round all tensors to on their way into the file; the default keeps their types.
 * @throws AdapterFormatError `non_finite` when a value is NaN or infinite, or becomes so in that type.
 */
export function encodeCanonical(params: {
  base: string;
  parent: string | null;
  modules: readonly LoraModule[];
  dtype?: LoraDtype | 'keep';
}): Uint8Array<ArrayBuffer> {
  const modules = [...params.modules].sort((a, b) => compare(a.name, b.name));
  return writeSafetensors(layout(params.base, params.parent, modules, params.dtype));
}

/**
 * Reads and checks a canonical file, byte for byte: anything but what {@link encodeCanonical} writes is refused.
 * The values of the tensors and the base's shapes are `validateAdapter`'s matter.
 * @throws AdapterFormatError
 */
export function parseCanonical(bytes: Uint8Array, options: { path?: string } = {}): CanonicalAdapter {
  const refuse = refuser(options.path);
  const file = parseSafetensors(bytes, { ...options, maxTensors: MAX_ADAPTER_TENSORS });
  const { config, modules } = readModules(file, refuse, (module) =>
    makeLoraModule({ ...module, path: options.path }),
  );
  checkPrefix(encodeSafetensorsPrefix(layout(config.base, config.parent, modules)), bytes, refuse);
  return { config, modules };
}
