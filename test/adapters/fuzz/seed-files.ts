/** Small valid adapters of every format, to start mutations from. */
import {
  encodeCanonical,
  makeLoraModule,
  writeGgufAdapter,
  writePeftAdapter,
  writeSafetensors,
} from '../../../adapters/index.ts';
import type { AdapterFiles, AttentionShape, Tensor } from '../../../adapters/index.ts';
import { BASE_ID, filled, loraModule, peftConfig, peftTensors, Q, tensor, V } from '../make-adapter.ts';

/** Three query heads of two rows, one key head: what `Q` (six rows) and `V` (two) are of. */
export const ATTENTION: AttentionShape = { heads: 3, kvHeads: 1 };

export interface SeedFile extends AdapterFiles {
  readonly name: string;
  readonly kind: 'safetensors' | 'gguf';
}

const K = V.replace('v_proj', 'k_proj');
const BASE_NAME = `someone/${BASE_ID}`;
const modules = [loraModule(Q, 2, 4, 6, 4), loraModule(K, 2, 4, 2, 4), loraModule(V, 1, 4, 2, 2)];
const halves = modules.map(({ name, rank, alpha, a, b }) =>
  makeLoraModule({
    name,
    rank,
    alpha,
    a: filled(a.shape[0]!, a.shape[1]!, 'BF16'),
    b: filled(b.shape[0]!, b.shape[1]!, 'BF16', 3),
  }),
);
const flipped = ({ shape }: Tensor, start: number): Tensor => filled(shape[1]!, shape[0]!, 'F32', start);

const mlxTensors = new Map(
  modules.slice(0, 2).flatMap(({ name, a, b }): [string, Tensor][] => [
    [`${name}.lora_a`, flipped(a, 1)],
    [`${name}.lora_b`, flipped(b, 3)],
  ]),
);
const kohyaTensors = new Map(
  modules.flatMap(({ name, a, b, alpha }, i): [string, Tensor][] => {
    const stem = i === 0 ? name : `lora_${name.replaceAll('.', '_')}`;
    return [
      [`${stem}.alpha`, tensor([], [alpha])],
      [`${stem}.lora_down.weight`, a],
      [`${stem}.lora_up.weight`, b],
    ];
  }),
);
const mlxConfig = JSON.stringify({
  model: BASE_NAME,
  fine_tune_type: 'lora',
  num_layers: 1,
  lora_parameters: { rank: 2, scale: 20, dropout: 0 },
});
const patterns = {
  r: 8,
  use_rslora: true,
  rank_pattern: { 'layers\\.0\\.self_attn\\.q_proj': 2, '.*v_proj': 2 },
  alpha_pattern: { '[qv]_proj': 16, 'nothing(a|b)?': 1 },
};
const invocation = [1, 520, 9_531];
const classifier = { weight: filled(2, 4), labels: ['no', 'yes'], problemType: null };
const portable = writePeftAdapter({ modules, baseModel: BASE_NAME });

const plain = (name: string, tensors: ReadonlyMap<string, Tensor>, configJson: string | null): SeedFile => ({
  name,
  kind: 'safetensors',
  weights: writeSafetensors({ metadata: new Map([['format', 'pt']]), tensors }),
  configJson,
});
const whole = (
  name: string,
  kind: SeedFile['kind'],
  weights: Uint8Array,
  configJson: string | null = null,
): SeedFile => ({
  name,
  kind,
  weights,
  configJson,
});

export const SEED_FILES: readonly SeedFile[] = [
  whole('canonical', 'safetensors', encodeCanonical({ base: BASE_ID, parent: null, modules })),
  whole('canonical BF16', 'safetensors', encodeCanonical({ base: BASE_ID, parent: null, modules: halves })),
  whole(
    'canonical, activated',
    'safetensors',
    encodeCanonical({ base: BASE_ID, parent: null, modules, invocation }),
  ),
  whole(
    'canonical with a head',
    'safetensors',
    encodeCanonical({ base: BASE_ID, parent: null, modules, classifier }),
  ),
  plain('peft', peftTensors(), peftConfig()),
  {
    ...plain(
      'peft with a head',
      peftTensors().set('base_model.model.score.weight', classifier.weight),
      peftConfig({ task_type: 'SEQ_CLS', modules_to_save: ['classifier', 'score'] }),
    ),
    modelConfigJson: JSON.stringify({ id2label: { '0': 'no', '1': 'yes' }, problem_type: 'regression' }),
  },
  plain('peft, activated', peftTensors(), peftConfig({ alora_invocation_tokens: invocation })),
  plain('peft BF16 with patterns', peftTensors(2, 'BF16'), peftConfig(patterns)),
  whole('peft, written', 'safetensors', portable.safetensors, portable.configJson),
  plain('mlx', mlxTensors, mlxConfig),
  plain('kohya', kohyaTensors, null),
  whole('gguf F32', 'gguf', writeGgufAdapter({ modules, attention: ATTENTION, baseModel: BASE_NAME })),
  whole(
    'gguf, activated',
    'gguf',
    writeGgufAdapter({ modules, invocation, attention: ATTENTION, baseModel: BASE_NAME }),
  ),
  whole(
    'gguf F16',
    'gguf',
    writeGgufAdapter({ modules: halves, attention: ATTENTION, baseModel: null, dtype: 'F16' }),
  ),
];
