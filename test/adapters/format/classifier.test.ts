import { describe, expect, it } from 'vitest';
import {
  checkLineage,
  commonClassifier,
  encodeCanonical,
  inspectAdapter,
  packAdapter,
  parseCanonical,
  parseSafetensors,
  readAdapter,
  toFloat32,
  type Tensor,
  validateAdapter,
  writeGgufAdapter,
  writePeftAdapter,
  writeSafetensors,
} from '../../../adapters/index.ts';
import { CONFIG_KEY, parseCanonicalHead } from '../../../adapters/format/canonical.ts';
import { chainId } from '../../../protocol/identity.ts';
import { MAX_CLASSES, MAX_LABEL_CHARACTERS } from '../../../protocol/limits.ts';
import {
  base as plainBase,
  BASE_ID,
  filled,
  loraModule,
  peftConfig,
  peftTensors,
  Q,
  refusal,
  tensor,
  V,
} from '../make-adapter.ts';

const base = { ...plainBase, hidden: 4 };
const SCORE = 'base_model.model.score.weight';
const SEQ_CLS = { task_type: 'SEQ_CLS', modules_to_save: ['classifier', 'score'] };
const LABELS = { id2label: { '0': 'no', '1': 'yes', '2': 'perhaps' } };
const weight = filled(3, 4);
const modules = [loraModule(Q), loraModule(V, 1, 4, 2, 0.5)];

/** A PEFT folder with a head of three classes. */
const files = (
  params: {
    config?: object;
    model?: object | null;
    heads?: Readonly<Record<string, Tensor>>;
    tensors?: Map<string, Tensor>;
  } = {},
) => ({
  configJson: peftConfig({ ...SEQ_CLS, ...params.config }),
  modelConfigJson: params.model === null ? null : JSON.stringify(params.model ?? LABELS),
  weights: writeSafetensors({
    tensors: new Map([
      ...(params.tensors ?? peftTensors()),
      ...Object.entries(params.heads ?? { [SCORE]: weight }),
    ]),
  }),
});
const pack = (params: Parameters<typeof files>[0] = {}, more: { dtype?: 'BF16' } = {}) =>
  packAdapter({ files: files(params), baseId: BASE_ID, parentChainId: null, ...more });

const file = (params: { labels?: readonly string[] | null; parent?: string | null; head?: Tensor } = {}) => {
  const { labels = ['no', 'yes', 'perhaps'], parent = null, head = weight } = params;
  const classifier = { weight: head, labels, problemType: null };
  return encodeCanonical({ base: BASE_ID, parent, modules, classifier });
};

/** The file with another text in its configuration. */
function forged(from: RegExp, to: string): Uint8Array<ArrayBuffer> {
  const { tensors, metadata } = parseSafetensors(file());
  const config = metadata.get(CONFIG_KEY)!;
  expect(config).toMatch(from);
  return writeSafetensors({ tensors, metadata: new Map([[CONFIG_KEY, config.replace(from, to)]]) });
}

describe('a classification head', () => {
  it("is read under PEFT's names, with the labels of config.json", async () => {
    for (const name of [
      SCORE,
      'base_model.model.classifier.weight',
      'base_model.model.score.modules_to_save.weight',
      'base_model.model.score.modules_to_save.default.weight',
      'base_model.model._orig_mod.score.weight',
    ]) {
      const read = readAdapter(files({ heads: { [name]: weight } }));
      expect(toFloat32(read.classifier!.weight)).toEqual(toFloat32(weight));
      expect(read.classifier).toMatchObject({ labels: ['no', 'yes', 'perhaps'], problemType: null });
      expect(read.modules.map((module) => module.name)).toEqual([Q, V]);
    }
    const packed = await pack();
    expect(packed.classifier?.labels).toEqual(['no', 'yes', 'perhaps']);
    expect(inspectAdapter(packed.bytes).classifier).toEqual({
      classes: 3,
      labels: ['no', 'yes', 'perhaps'],
      problemType: null,
    });
    expect(validateAdapter({ adapter: packed, base })).toEqual([]);
  });

  it('has no labels where config.json has none, or has those that it would have anyway', async () => {
    const without = await pack({ model: null });
    for (const model of [
      {},
      { id2label: null },
      { id2label: { '2': 'LABEL_2', '0': 'LABEL_0', '1': 'LABEL_1' } },
    ])
      expect((await pack({ model })).digest).toBe(without.digest);
    expect(without.classifier?.labels).toBeNull();
    const kinds = ['regression', 'single_label_classification', 'multi_label_classification'];
    const packed = await Promise.all(kinds.map((problem_type) => pack({ model: { problem_type } })));
    expect(packed.map(({ classifier }) => classifier?.problemType)).toEqual(kinds);
    expect(new Set([without, ...packed].map(({ digest }) => digest)).size).toBe(4);
  });

  it('is read without a task only as score, as reward models are saved', () => {
    const config = { task_type: null, modules_to_save: ['score'] };
    expect(readAdapter(files({ config })).classifier).toBeDefined();
    refusal('classifier_unsupported', () =>
      readAdapter(
        files({
          config: { task_type: null, modules_to_save: ['classifier'] },
          heads: { 'base_model.model.classifier.weight': weight },
        }),
      ),
    );
    refusal('classifier_unsupported', () =>
      readAdapter(files({ config: { ...config, task_type: 'CAUSAL_LM' } })),
    );
  });

  it('keeps its type where the adapter is rounded, and is narrowed from float64', async () => {
    const { classifier, modules: rounded } = await pack({}, { dtype: 'BF16' });
    expect([classifier?.weight.dtype, rounded[0]?.a.dtype]).toEqual(['F32', 'BF16']);
    const wide = readAdapter(files({ heads: { [SCORE]: filled(3, 4, 'F64') } }));
    expect([wide.classifier?.weight.dtype, toFloat32(wide.classifier!.weight)]).toEqual([
      'F32',
      toFloat32(weight),
    ]);
    for (const dtype of ['F16', 'BF16'] as const)
      expect((await pack({ heads: { [SCORE]: filled(3, 4, dtype) } })).classifier?.weight.dtype).toBe(dtype);
  });

  it('is read back from its bytes and from their beginning, and packs again to the same bytes', async () => {
    const bytes = file();
    const parsed = parseCanonical(bytes);
    expect(toFloat32(parsed.classifier!.weight)).toEqual(toFloat32(weight));
    expect(encodeCanonical({ ...parsed.config, ...parsed })).toEqual(bytes);
    const length = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const head = parseCanonicalHead({ prefix: bytes.subarray(0, length), fileBytes: bytes.length });
    expect(head.classifier).toMatchObject({ labels: ['no', 'yes', 'perhaps'] });
    const again = await packAdapter({
      ...{ files: { weights: bytes, configJson: null }, baseId: BASE_ID, parentChainId: null },
    });
    expect(again.bytes).toEqual(bytes);
  });

  it('keeps labels and values in a PEFT folder, and cannot be written as GGUF', () => {
    const { classifier } = readAdapter(files({ model: { ...LABELS, problem_type: 'regression' } }));
    const peft = writePeftAdapter({ modules: [loraModule(Q)], classifier, baseModel: null });
    const back = readAdapter({
      ...{ weights: peft.safetensors, configJson: peft.configJson, modelConfigJson: peft.modelConfigJson },
    });
    expect(back.classifier).toMatchObject({ labels: classifier!.labels, problemType: 'regression' });
    expect(toFloat32(back.classifier!.weight)).toEqual(toFloat32(weight));
    const plain = writePeftAdapter({ modules: [loraModule(Q)], baseModel: null });
    expect([plain.modelConfigJson, JSON.parse(plain.configJson)]).toMatchObject([
      null,
      { modules_to_save: null, task_type: 'CAUSAL_LM' },
    ]);
    const { message } = refusal('classifier_unsupported', () =>
      writeGgufAdapter({
        ...{ modules: [loraModule(Q)], classifier, baseModel: null, attention: { heads: 3, kvHeads: 1 } },
      }),
    );
    expect(message).toContain('Write it as PEFT');
  });

  it.each([
    ['token_cls', { task_type: 'TOKEN_CLS' }, {}, 'task_type'],
    [
      'question answering',
      { task_type: 'QUESTION_ANS', modules_to_save: ['qa_outputs'] },
      { 'base_model.model.qa_outputs.weight': filled(2, 4) },
      'task_type',
    ],
    ['a bias', {}, { [SCORE]: weight, 'base_model.model.score.bias': tensor([3], [1, 2, 3]) }, undefined],
    [
      "an encoder's head",
      {},
      {
        'base_model.model.classifier.dense.weight': filled(4, 4),
        'base_model.model.classifier.out_proj.weight': weight,
      },
      undefined,
    ],
    ['two heads', {}, { [SCORE]: weight, 'base_model.model.classifier.weight': weight }, undefined],
  ])('that no pooling defines is refused by name: %s', (_, config, heads, subject) => {
    const error = refusal('classifier_unsupported', () => readAdapter(files({ config, heads })));
    if (subject !== undefined) expect(error.subject).toBe(subject);
    else expect(error.message).toMatch(/score|classifier/);
  });

  it.each([
    ['embed_tokens', ['embed_tokens', 'score']],
    ['lm_head', ['lm_head']],
    ['a number', [5]],
  ])('is the only whole module that is read: %s', (_, modules_to_save) => {
    refusal('modules_to_save', () => readAdapter(files({ config: { modules_to_save } })));
  });

  it('must be in the file, and the file must not have one that the configuration does not name', () => {
    refusal('classifier_invalid', () => readAdapter(files({ heads: {} })));
    refusal('full_weight', () => readAdapter(files({ config: { modules_to_save: null } })));
    refusal('full_weight', () =>
      readAdapter(
        files({ heads: { [SCORE]: weight, 'base_model.model.score.original_module.weight': weight } }),
      ),
    );
  });

  it.each([
    ['too few labels', { id2label: { '0': 'a', '1': 'b' } }],
    ['holes', { id2label: { '0': 'a', '1': 'b', '3': 'c' } }],
    ['a label twice', { id2label: { '0': 'a', '1': 'b', '2': 'a' } }],
    ['an empty label', { id2label: { '0': 'a', '1': '', '2': 'c' } }],
    ['a number', { id2label: { '0': 'a', '1': 1, '2': 'c' } }],
    ['a long label', { id2label: { '0': 'a', '1': 'b'.repeat(MAX_LABEL_CHARACTERS + 1), '2': 'c' } }],
    ['a list', { id2label: ['a', 'b', 'c'] }],
    ['an unknown problem', { problem_type: 'ranking' }],
  ])('is refused for %s in config.json', (_, model) => {
    refusal('classifier_invalid', () => readAdapter(files({ model })));
  });

  it('has two dimensions, a type of the adapter, and at most a thousand classes', async () => {
    refusal('classifier_invalid', () =>
      readAdapter(files({ model: null, heads: { [SCORE]: tensor([4], [1, 2, 3, 4]) } })),
    );
    refusal('dtype_unsupported', () =>
      readAdapter(
        files({
          model: null,
          heads: { [SCORE]: { dtype: 'I32', shape: [1, 4], data: new Uint8Array(16) } },
        }),
      ),
    );
    const { message } = refusal('classifier_invalid', () =>
      readAdapter(files({ model: null, heads: { [SCORE]: filled(MAX_CLASSES + 1, 4) } })),
    );
    expect(message).toContain('1001 classes');
    const most = await pack({ model: null, heads: { [SCORE]: filled(MAX_CLASSES, 4) } });
    expect(most.classifier?.weight.shape).toEqual([MAX_CLASSES, 4]);
  });

  it('must be finite, and not zero; its adapter may then be', async () => {
    const zero = new Map(
      [...peftTensors()].map(([name, { shape }]) => [
        name,
        tensor(
          [...shape],
          Array.from({ length: shape[0]! * shape[1]! }, () => 0),
        ),
      ]),
    );
    expect((await pack({ tensors: zero })).classifier).toBeDefined();
    for (const [code, value] of [
      ['non_finite', NaN],
      ['non_finite', Infinity],
      ['no_op', 0],
    ] as const)
      await expect(
        pack({
          heads: {
            [SCORE]: tensor(
              [3, 4],
              Array.from({ length: 12 }, () => value),
            ),
          },
        }),
      ).rejects.toMatchObject({ code });
  });

  it('must be as wide as the states of its base, whose engine must serve heads', () => {
    const check = (hidden?: number) =>
      validateAdapter({ adapter: file(), base: hidden === undefined ? plainBase : { ...base, hidden } }).map(
        ({ code, subject }) => [code, subject],
      );
    expect([check(4), check(5), check()]).toEqual([
      [],
      [['shape_mismatch', 'classifier']],
      [['classifier_unsupported', 'classifier']],
    ]);
  });

  it.each([
    [/"labels":\[[^\]]*\]/, '"labels":["a","b"]', 'classifier_invalid'],
    [/"labels":\[[^\]]*\]/, '"labels":["a","b","a"]', 'not_canonical'],
    [/"labels":\[[^\]]*\]/, '"labels":{}', 'not_canonical'],
    [/"problem_type":null/, '"problem_type":"ranking"', 'not_canonical'],
    [/"problem_type":null/, '"problem_type":null,"more":1', 'not_canonical'],
    [/"labels":(\[[^\]]*\]),"problem_type":null/, '"problem_type":null,"labels":$1', 'not_canonical'],
    [/,"classifier":.*\}\}$/, '}', 'unknown_tensor'],
    [/"classifier":\{.*\}\}$/, '"classifier":null}', 'not_canonical'],
  ] as const)('has one canonical form: %s as %s is refused', (from, to, code) => {
    refusal(code, () => parseCanonical(forged(from, to)));
  });

  it('is one at most in a sum and in a chain', async () => {
    const classifier = { weight, labels: null, problemType: null };
    expect([commonClassifier([{}, {}]), commonClassifier([{}, { classifier }])]).toEqual([
      undefined,
      classifier,
    ]);
    refusal('classifier_unsupported', () => commonClassifier([{ classifier }, { classifier }]));
    const entry = (digit: string, bytes: Uint8Array) => ({
      ...{ digest: digit.repeat(64), scale: 1 },
      ...parseCanonical(bytes),
    });
    const root = entry('1', encodeCanonical({ base: BASE_ID, parent: null, modules }));
    const middle = entry('2', file({ parent: await chainId([root]) }));
    expect(await checkLineage([root, middle])).toBeNull();
    const id = await chainId([root, middle]);
    const above = entry('3', encodeCanonical({ base: BASE_ID, parent: id, modules }));
    expect(await checkLineage([root, middle, above])).toBeNull();
    const second = await checkLineage([root, middle, entry('4', file({ parent: id }))]);
    expect([second?.code, second?.message]).toEqual([
      'classifier_unsupported',
      expect.stringContaining('2'.repeat(64)),
    ]);
  });
});
