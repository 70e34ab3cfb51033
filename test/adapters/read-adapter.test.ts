import { describe, expect, it } from 'vitest';
import { encodeCanonical, readAdapter, writeSafetensors } from '../../adapters/index.ts';
import {
  BASE_ID,
  filled,
  kohyaFiles,
  kohyaTensors,
  loraModule,
  mlxConfig,
  mlxFiles,
  mlxTensors,
  peftConfig,
  peftFiles,
  peftTensors,
  Q,
  refusal,
  tensor,
  V,
} from './make-adapter.ts';

const MODULES = [
  [Q, 2, 4, 2],
  [V, 2, 4, 2],
];
const weights = (tensors: Parameters<typeof writeSafetensors>[0]['tensors']) => writeSafetensors({ tensors });

describe('the format is detected by the content', () => {
  it.each([
    ['LOHA', 'hada_w1_a'],
    ['LOKR', 'lokr_w1'],
  ])("refuses %s of PEFT with the configuration's error", (type, part) => {
    const files = {
      weights: weights(new Map([[`base_model.model.${Q}.${part}`, filled(2, 4)]])),
      configJson: peftConfig({ peft_type: type }),
    };
    expect(refusal('not_lora', () => readAdapter(files)).message).toContain(`peft_type is "${type}"`);
  });

  it.each([
    ['peft', peftFiles(), 'someone/Tiny-Llama'],
    ['mlx', mlxFiles(), 'someone/Tiny-Llama'],
    ['kohya', kohyaFiles(), null],
  ] as const)('%s', (format, files, baseModel) => {
    const read = readAdapter(files);
    expect(read).toMatchObject({ format, baseModel, parent: null, warnings: [] });
    expect(read.modules.map(({ name, rank, alpha, scale }) => [name, rank, alpha, scale])).toEqual(MODULES);
    expect(read.modules).toEqual(readAdapter(peftFiles()).modules);
  });

  it('reads a canonical file, whatever is beside it', () => {
    const parent = 'c'.repeat(64);
    const bytes = encodeCanonical({ base: BASE_ID, parent, modules: [loraModule(Q)] });
    const expected = {
      format: 'canonical',
      baseModel: BASE_ID,
      parent,
      modules: [loraModule(Q)],
      warnings: [],
    };
    expect(readAdapter({ weights: bytes, configJson: null })).toEqual(expected);
    expect(readAdapter({ weights: bytes, configJson: peftConfig({ use_dora: true }) })).toEqual(expected);
  });

  const npz = Uint8Array.from([
    0x50,
    0x4b,
    3,
    4,
    ...new Array<number>(22).fill(0),
    5,
    0,
    0,
    0,
    0x61,
    0x2e,
    0x6e,
    0x70,
    0x79,
  ]);
  it.each([
    [
      'a zip of torch.save',
      Uint8Array.from([0x50, 0x4b, 3, 4, 0, 0, 0, 0, 0, 0]),
      'pickle_refused',
      'safe_serialization',
    ],
    [
      'a bare pickle',
      Uint8Array.from([0x80, 2, 0x7d, 0x71, 0, 0, 0, 0, 0, 0x2e]),
      'pickle_refused',
      'safe_serialization',
    ],
    ['an npz archive', npz, 'format_unknown', 'mx.save_safetensors'],
  ] as const)('%s is refused with the way out', (_, bytes, code, wayOut) => {
    const error = refusal(code, () =>
      readAdapter({ ...peftFiles(), weights: bytes, weightsPath: 'a/w.bin' }),
    );
    expect(error.message).toContain(wayOut);
    expect(error.path).toBe('a/w.bin');
  });

  it.each([
    ['adapter_model-00001-of-00002.safetensors', 'one of 2 parts', "'adapter_model.safetensors')"],
    ['x/adapters-00002-of-00012.safetensors', 'one of 12 parts', 'save_pretrained'],
    ['a-00001-of-00002.gguf', 'one of 2 parts', 'llama-gguf-split --merge'],
  ])('%s is refused as one of several parts', (weightsPath, count, wayOut) => {
    const error = refusal('file_in_parts', () => readAdapter({ ...peftFiles(), weightsPath }));
    expect(error.message).toContain(count);
    expect(error.message).toContain(wayOut);
    expect(error.path).toBe(weightsPath);
  });

  it.each(['adapter_model-00001-of-00001.safetensors', 'step-00100-of-00200/adapter.safetensors'])(
    '%s is a whole file',
    (weightsPath) => {
      expect(readAdapter({ ...peftFiles(), weightsPath }).modules).toHaveLength(2);
    },
  );

  it('leaves out a vision tower that was not trained, and says so', () => {
    const seeing = 'base_model.model.model.vision_tower.encoder.layers.0.self_attn.q_proj';
    const tensors = peftTensors();
    tensors
      .set(`${seeing}.lora_A.weight`, filled(2, 4))
      .set(`${seeing}.lora_B.weight`, tensor([6, 2], Array<number>(12).fill(0)));
    const read = readAdapter(peftFiles({}, tensors));
    expect(read.modules).toEqual(readAdapter(peftFiles()).modules);
    const warning = 'The vision tower is left out (modules: 1): its B is zero, so it adds nothing.';
    expect(read.warnings).toEqual([warning]);
    tensors.set(`${seeing}.lora_B.weight`, filled(6, 2));
    expect(readAdapter(peftFiles({}, tensors)).modules).toHaveLength(3);
  });

  it('does not take a header of 640 bytes for a pickle', () => {
    const files = peftFiles();
    const length = new DataView(files.weights.buffer).getUint32(0, true);
    const padded = Uint8Array.from([
      ...[0x80, 2, 0, 0, 0, 0, 0, 0],
      ...files.weights.slice(8, 8 + length),
      ...new Array<number>(640 - length).fill(0x20),
      ...files.weights.slice(8 + length),
    ]);
    expect(readAdapter({ ...files, weights: padded }).modules).toHaveLength(2);
  });

  it('gives views into a PEFT file, no copies', () => {
    const files = peftFiles();
    for (const { a, b } of readAdapter(files).modules)
      expect([a.data.buffer, b.data.buffer]).toEqual([files.weights.buffer, files.weights.buffer]);
  });
});

describe('the configuration', () => {
  it.each([
    ['PEFT', weights(peftTensors())],
    ['MLX', weights(mlxTensors())],
  ])('of %s must exist', (_, bytes) => {
    const error = refusal('config_missing', () =>
      readAdapter({ weights: bytes, configJson: null, configPath: 'x/adapter_config.json' }),
    );
    expect(error.path).toBe('x/adapter_config.json');
  });

  it.each([
    ['PEFT beside MLX tensors', peftConfig(), weights(mlxTensors())],
    ['PEFT beside kohya tensors', peftConfig(), weights(kohyaTensors())],
    ['MLX beside PEFT tensors', mlxConfig(), weights(peftTensors())],
    ['MLX beside kohya tensors', mlxConfig(), weights(kohyaTensors())],
  ])('%s is refused', (_, configJson, bytes) => {
    const { message } = refusal('config_mismatch', () => readAdapter({ weights: bytes, configJson }));
    expect(message).toContain('saved together');
  });

  it('decides what a file without LoRA tensors was meant to be', () => {
    const whole = weights(new Map([['model.embed_tokens.weight', filled(2, 2)]]));
    const { subject } = refusal('full_weight', () =>
      readAdapter({ weights: whole, configJson: mlxConfig({ fine_tune_type: 'full' }) }),
    );
    expect(subject).toBe('fine_tune_type');
    refusal('full_weight', () => readAdapter({ weights: whole, configJson: peftConfig() }));
    // What the tensors give away is said before the missing configuration.
    refusal('full_weight', () => readAdapter({ weights: whole, configJson: null }));
    refusal('empty_adapter', () => readAdapter({ weights: weights(new Map()), configJson: null }));
  });

  it('reports an unknown configuration as such', () => {
    refusal('not_lora', () => readAdapter({ weights: weights(peftTensors()), configJson: '{"rank":8}' }));
    refusal('config_invalid', () =>
      readAdapter({ weights: weights(mlxTensors()), configJson: '{"rank":8}' }),
    );
  });
});

it('refuses names of 100,000 characters in linear time', () => {
  const long = 100_000;
  const names = [
    'a'.repeat(long),
    '.'.repeat(long),
    '.lora_A'.repeat(long / 7),
    '.lora_A.weight'.repeat(long / 14),
    `x.lora_A.${'a'.repeat(long)}`,
    `x.lora_A.${'a'.repeat(long)}.weigh`,
    '.lora_B.x.bias'.repeat(long / 14),
    'lora_'.repeat(long / 5),
    '.weight'.repeat(long / 7),
    'lora_te1'.repeat(long / 8),
    `lora_te${'1'.repeat(long)}`,
    'layers_0_'.repeat(long / 9),
    `lora_model_layers_${'1'.repeat(long)}_mlp_up_proj.lora_up.weight`,
    '.hada_w1_a'.repeat(long / 10),
    `${'a.'.repeat(long / 2)}lora_a`,
    '\n'.repeat(long),
  ];
  for (const name of names)
    for (const like of [peftTensors(), mlxTensors(), kohyaTensors()]) {
      const bytes = weights(new Map([...like, [name, tensor([1], [1])]]));
      expect(() => readAdapter({ weights: bytes, configJson: null })).toThrow();
      expect(() => readAdapter({ weights: bytes, configJson: peftConfig() })).toThrow();
      expect(() => readAdapter({ weights: bytes, configJson: mlxConfig() })).toThrow();
    }
});
