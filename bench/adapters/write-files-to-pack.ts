import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  readAdapter,
  toDtype,
  writeGgufAdapter,
  writeSafetensors,
  type AdapterFiles,
  type AttentionShape,
  type LoraModule,
  type Tensor,
} from '../../adapters/index.ts';

export interface FileToPack {
  name: string;
  file: string;
  /** To be packed as BF16, not in the types that it has. */
  bf16: boolean;
}

const peftTensors = ({ name, a, b }: LoraModule): [string, Tensor][] => [
  [`base_model.model.${name}.lora_A.weight`, a],
  [`base_model.model.${name}.lora_B.weight`, b],
];

/** Only the shape: the values are random, and where each lies does not matter here. */
const turned = ({ shape: [rows, columns], ...tensor }: Tensor): Tensor => ({
  ...tensor,
  shape: [columns!, rows!],
});
const mlxTensors = ({ name, a, b }: LoraModule): [string, Tensor][] => [
  [`${name}.lora_a`, turned(a)],
  [`${name}.lora_b`, turned(b)],
];
const MLX_CONFIG = {
  fine_tune_type: 'lora',
  num_layers: 30,
  lora_parameters: { rank: 16, scale: 2, dropout: 0 },
};

/**
 * One adapter in several formats and types, in folders of its own in `work`.
 * @param params.peft a PEFT adapter in F32, of rank 16, which lies at `peftPath`.
 */
export async function writeFilesToPack(params: {
  work: string;
  peft: AdapterFiles;
  peftPath: string;
  attention: AttentionShape;
}): Promise<FileToPack[]> {
  const { work, peft, peftPath, attention } = params;
  const { modules } = readAdapter(peft);
  const put = async (folder: string, weights: Uint8Array, config: string | null): Promise<string> => {
    await mkdir(path.join(work, folder));
    if (config !== null) await writeFile(path.join(work, folder, 'adapter_config.json'), config);
    const file = path.join(work, folder, 'weights');
    await writeFile(file, weights);
    return file;
  };
  const safetensors = (of: readonly LoraModule[], tensorsOf: (module: LoraModule) => [string, Tensor][]) =>
    writeSafetensors({ tensors: new Map(of.flatMap(tensorsOf)) });
  const bf16 = safetensors(toDtype(modules, 'BF16'), peftTensors);
  const gguf = writeGgufAdapter({ modules, baseModel: null, attention });
  return [
    { name: 'PEFT F32', file: peftPath, bf16: false },
    { name: 'PEFT BF16', file: await put('peft-bf16', bf16, peft.configJson), bf16: false },
    { name: 'PEFT F32 to BF16', file: peftPath, bf16: true },
    {
      name: 'MLX F32',
      file: await put('mlx', safetensors(modules, mlxTensors), JSON.stringify(MLX_CONFIG)),
      bf16: false,
    },
    { name: 'GGUF F32', file: await put('gguf', gguf, null), bf16: false },
  ];
}
