/** Every code has a file that gives it: the table does not compile, and the test fails, without one. */
import { expect, it } from 'vitest';
import {
  ADAPTER_ERROR_CODES,
  AdapterFormatError,
  checkLineage,
  encodeCanonical,
  packAdapter,
  parseCanonical,
  readAdapter,
  validateAdapter,
  writeGgufAdapter,
  writeSafetensors,
  type AdapterErrorCode,
  type Tensor,
} from '../../adapters/index.ts';
import {
  base,
  BASE_ID,
  filled,
  kohyaTensors,
  loraModule,
  mlxConfig,
  mlxTensors,
  peftConfig,
  peftFiles,
  peftTensors,
  Q,
  rawFile,
  tensor,
} from './make-adapter.ts';

const A = `base_model.model.${Q}.lora_A.weight`;
const B = `base_model.model.${Q}.lora_B.weight`;
type Case = () => unknown;

const bytes =
  (weights: Uint8Array): Case =>
  () =>
    readAdapter({ weights, configJson: peftConfig() });
const header = (text: string, data = 0): Case => bytes(rawFile(text, data));
const config =
  (overrides: Record<string, unknown>): Case =>
  () =>
    readAdapter(peftFiles(overrides));
const peft =
  (name: string, value: Tensor = filled(2, 4)): Case =>
  () =>
    readAdapter(peftFiles({}, peftTensors().set(name, value)));
const pack =
  (name: string, value: Tensor): Case =>
  () =>
    packAdapter({
      files: peftFiles({}, peftTensors().set(name, value)),
      baseId: BASE_ID,
      parentChainId: null,
    });
const kohya =
  (name: string): Case =>
  () =>
    readAdapter({
      weights: writeSafetensors({ tensors: kohyaTensors().set(name, filled(2, 4)) }),
      configJson: null,
    });
const mlx =
  (parameters: Record<string, unknown>, tensors = mlxTensors()): Case =>
  () =>
    readAdapter({
      weights: writeSafetensors({ tensors }),
      configJson: mlxConfig({ num_layers: undefined, fine_tune_type: undefined }, parameters),
    });
/** Problems that come back as a list, thrown. */
const invalid =
  (modules: Parameters<typeof encodeCanonical>[0]['modules'], baseId = BASE_ID): Case =>
  () => {
    const [problem] = validateAdapter({
      adapter: encodeCanonical({ base: baseId, parent: null, modules }),
      base,
    });
    throw problem;
  };
const canonical = (from: string, to: string): Case => {
  const text = `{"format":1,"base":"${BASE_ID}","modules":{"${Q}":{"rank":2,"alpha":4}},"parent":null}`;
  const { a, b } = loraModule();
  const tensors = new Map([
    [`${Q}.lora_A`, a],
    [`${Q}.lora_B`, b],
  ]);
  return () =>
    parseCanonical(
      writeSafetensors({ metadata: new Map([['graft.config', text.replace(from, to)]]), tensors }),
    );
};
const gguf = (): Uint8Array =>
  writeGgufAdapter({
    modules: [loraModule()],
    attention: { heads: 3, kvHeads: 1 },
    baseModel: null,
    dtype: 'F32',
  });
/** The GGUF file with another architecture of the same length. */
function ofArchitecture(name: string): Uint8Array {
  const file = gguf();
  const at = Buffer.from(file).indexOf('llama');
  file.set(new TextEncoder().encode(name), at);
  return file;
}
const ONES = new Array<number>(8).fill(1);

const CASES: Record<AdapterErrorCode, Case> = {
  pickle_refused: bytes(Uint8Array.from([0x80, 4, 0x95, 0, 0, 0, 0, 0, 0])),
  format_unknown: bytes(
    Uint8Array.from([0x50, 0x4b, 3, 4, ...new Array<number>(22).fill(0), 4, 0, 0, 0, ...Buffer.from('.npy')]),
  ),
  file_in_parts: () =>
    readAdapter({ ...peftFiles(), weightsPath: 'adapter_model-00001-of-00002.safetensors' }),
  truncated_file: bytes(new Uint8Array(7)),
  trailing_bytes: header('{}', 1),
  header_too_large: bytes(new Uint8Array(8).fill(0xff)),
  header_invalid: header('{"a"'),
  duplicate_key: header('{"a":1,"a":1}'),
  metadata_invalid: header('{"__metadata__":{"a":1}}'),
  too_many_tensors: header(`{"a":[${'0,'.repeat(300_000)}0]}`),
  tensor_invalid: header('{"a":1}'),
  dtype_unknown: header('{"a":{"dtype":"F33","shape":[0],"data_offsets":[0,0]}}'),
  shape_invalid: header('{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,0]}}'),
  offsets_invalid: header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', 8),
  size_mismatch: header('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', 4),
  config_missing: () => readAdapter({ ...peftFiles(), configJson: null }),
  config_mismatch: () => readAdapter({ ...peftFiles(), configJson: mlxConfig() }),
  config_invalid: config({ r: 0 }),
  config_key_unknown: config({ use_something_new: true }),
  pattern_unsupported: config({ rank_pattern: { '(?=q)': 2 } }),
  not_lora: config({ peft_type: 'VERA' }),
  dora: config({ use_dora: true }),
  alora: config({ alora_invocation_tokens: ['1'] }),
  qalora: config({ use_qalora: true }),
  bdlora: config({ use_bdlora: { nblocks: 2 } }),
  kasa: config({ kasa_config: { beta: 1 } }),
  arrow: config({ arrow_config: { top_k: 3 } }),
  monteclora: config({ monteclora_config: { num_samples: 1 } }),
  megatron: config({ megatron_config: { a: 1 } }),
  layer_replication: config({ layer_replication: [[0, 4]] }),
  modules_to_save: config({ modules_to_save: ['lm_head'] }),
  classifier_invalid: config({ modules_to_save: ['score'], task_type: 'SEQ_CLS' }),
  classifier_unsupported: config({ modules_to_save: ['score'], task_type: 'TOKEN_CLS' }),
  trainable_tokens: config({ trainable_token_indices: [3] }),
  target_parameters: config({ target_parameters: ['mlp.experts.gate_up_proj'] }),
  bias: config({ bias: 'all' }),
  lora_bias: config({ lora_bias: true }),
  init_mutates_base: config({ init_lora_weights: 'pissa' }),
  scale_ambiguous: mlx({ alpha: 16 }),
  embedding_lora: peft('base_model.model.transformer.wte.lora_embedding_A'),
  full_weight: peft('base_model.model.lm_head.weight'),
  expert_lora: mlx({}, mlxTensors().set('m.lora_a', tensor([2, 2, 2], ONES))),
  image_lora: kohya('lora_unet_mid_block.lora_up.weight'),
  lycoris: kohya('lora_model_layers_0_mlp_up_proj.hada_w1_a'),
  name_ambiguous: kohya('lora_model_layers_0_mlp_fc_up.lora_up.weight'),
  unknown_tensor: peft(`base_model.model.${Q}.lora_C.weight`),
  duplicate_module: peft(A.replace('.weight', '.other.weight')),
  missing_pair: peft('base_model.model.alone.lora_A.weight'),
  module_name_invalid: () =>
    readAdapter(
      peftFiles(
        {},
        new Map([
          ['a/b.lora_A.weight', filled(2, 4)],
          ['a/b.lora_B.weight', filled(4, 2)],
        ]),
      ),
    ),
  dtype_unsupported: peft(A, { dtype: 'I8', shape: [2, 4], data: new Uint8Array(8) }),
  rank_mismatch: config({ r: 3 }),
  rank_too_large: () =>
    readAdapter(
      peftFiles(
        { r: 513 },
        new Map([
          [A, filled(513, 1)],
          [B, filled(1, 513)],
        ]),
      ),
    ),
  scale_invalid: config({ lora_alpha: 0 }),
  empty_adapter: () => readAdapter(peftFiles({}, new Map())),
  non_finite: pack(A, tensor([2, 4], [NaN, ...ONES.slice(1)])),
  no_op: () =>
    packAdapter({
      files: peftFiles(
        {},
        new Map([...peftTensors()].map(([name, t]) => [name, { ...t, data: t.data.map(() => 0) }])),
      ),
      baseId: BASE_ID,
      parentChainId: null,
    }),
  not_canonical: canonical('"format":1', '"format": 1'),
  format_version: canonical('"format":1', '"format":2'),
  base_needed: () => readAdapter({ weights: gguf(), configJson: null }),
  architecture_unknown: () => readAdapter({ weights: ofArchitecture('mamba'), configJson: null }),
  base_mismatch: invalid([loraModule()], 'other'),
  module_unknown: invalid([loraModule('model.layers.9.mlp.up_proj')]),
  shape_mismatch: invalid([loraModule(Q, 2, 5, 6)]),
  rank_sum_exceeded: invalid([loraModule(Q, 17)]),
  parent_mismatch: async () => {
    const config = { base: BASE_ID, parent: 'c'.repeat(64), modules: new Map() };
    throw await checkLineage([{ digest: 'd'.repeat(64), scale: 1, config }]);
  },
};

it.each(ADAPTER_ERROR_CODES)('%s', async (code) => {
  const error: unknown = await Promise.resolve()
    .then(CASES[code])
    .catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(AdapterFormatError);
  expect((error as AdapterFormatError).code).toBe(code);
  // One sentence at least, of what is wrong and of what to do; printable, whatever the file holds.
  expect((error as AdapterFormatError).message).toMatch(/^[\x20-\x7e…]{20,}\.$/);
});
