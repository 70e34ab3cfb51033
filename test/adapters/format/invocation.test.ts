import { describe, expect, it } from 'vitest';
import {
  checkLineage,
  commonInvocation,
  encodeCanonical,
  inspectAdapter,
  packAdapter,
  parseCanonical,
  parseSafetensors,
  readAdapter,
  validateAdapter,
  writeGgufAdapter,
  writePeftAdapter,
  writeSafetensors,
} from '../../../adapters/index.ts';
import { CONFIG_KEY, parseCanonicalHead } from '../../../adapters/format/canonical.ts';
import { chainId } from '../../../protocol/identity.ts';
import { MAX_INVOCATION_TOKENS, MAX_VOCABULARY } from '../../../protocol/limits.ts';
import { base, BASE_ID, filled, loraModule, peftFiles, peftTensors, Q, refusal, V } from '../make-adapter.ts';

const INVOCATION = [1, 520, 9_531];
const modules = [loraModule(Q), loraModule(V, 1, 4, 2, 0.5)];
const ATTENTION = { heads: 3, kvHeads: 1 };
const activated = (invocation: unknown) => peftFiles({ alora_invocation_tokens: invocation });
const file = (invocation?: readonly number[]) =>
  encodeCanonical({ base: BASE_ID, parent: null, modules, invocation });
const pack = (invocation: unknown) =>
  packAdapter({ files: activated(invocation), baseId: BASE_ID, parentChainId: null });

/** The file with another list in its configuration. */
function forged(invocation: string): Uint8Array<ArrayBuffer> {
  const { tensors, metadata } = parseSafetensors(file(INVOCATION));
  const config = metadata.get(CONFIG_KEY)!.replace(/"invocation":.*\}$/, `"invocation":${invocation}}`);
  return writeSafetensors({ tensors, metadata: new Map([[CONFIG_KEY, config]]) });
}

describe('an activated adapter', () => {
  it("is read from PEFT's configuration and packed with its tokens, which are part of its digest", async () => {
    expect(readAdapter(activated(INVOCATION)).invocation).toEqual(INVOCATION);
    const [one, other, plain] = [await pack(INVOCATION), await pack([1, 520]), await pack(null)];
    expect(one.config.invocation).toEqual(INVOCATION);
    expect(parseSafetensors(one.bytes).metadata.get(CONFIG_KEY)).toMatch(
      /,"parent":null,"invocation":\[1,520,9531\]\}$/,
    );
    expect(new Set([one, other, plain].map(({ digest }) => digest)).size).toBe(3);
    expect(plain.config).not.toHaveProperty('invocation');
    expect(inspectAdapter(one.bytes)).toMatchObject({ invocation: INVOCATION });
    expect(inspectAdapter(plain.bytes)).not.toHaveProperty('invocation');
  });

  it('is refused if it adapts the embedding, which PEFT never does', () => {
    const tensors = peftTensors();
    const path = 'base_model.model.model.embed_tokens.lora_embedding';
    tensors.set(`${path}_A`, filled(2, 9)).set(`${path}_B`, filled(4, 2));
    expect(readAdapter(peftFiles({}, tensors)).modules).toHaveLength(3);
    const files = peftFiles({ alora_invocation_tokens: INVOCATION }, tensors);
    expect(refusal('alora', () => readAdapter(files)).subject).toBe('model.embed_tokens');
  });

  it('is read back from its bytes and from its head, and packs again to the same bytes', async () => {
    const bytes = file(INVOCATION);
    const { config } = parseCanonical(bytes);
    expect(config.invocation).toEqual(INVOCATION);
    expect(encodeCanonical({ ...config, modules })).toEqual(bytes);
    const length = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
    const head = parseCanonicalHead({ prefix: bytes.subarray(0, length), fileBytes: bytes.length });
    expect(head.config.invocation).toEqual(INVOCATION);
    const again = await packAdapter({
      ...{ files: { weights: bytes, configJson: null }, baseId: BASE_ID, parentChainId: null },
    });
    expect(again.bytes).toEqual(bytes);
  });

  it('keeps its tokens in PEFT folders and GGUF files', () => {
    const read = { modules: [loraModule(Q)], invocation: INVOCATION };
    const peft = writePeftAdapter({ ...read, baseModel: null });
    expect(readAdapter({ weights: peft.safetensors, configJson: peft.configJson }).invocation).toEqual(
      INVOCATION,
    );
    const gguf = writeGgufAdapter({ ...read, baseModel: null, attention: ATTENTION });
    const back = readAdapter({ weights: gguf, configJson: null }, { attention: ATTENTION });
    expect([back.invocation, back.modules.map(({ name }) => name)]).toEqual([INVOCATION, [Q]]);
  });

  it('is a plain one where the list is off', () => {
    for (const off of [null, [], false]) expect(readAdapter(activated(off)).invocation).toBeUndefined();
    expect(writePeftAdapter({ modules, baseModel: null }).configJson).not.toContain('alora');
  });

  it.each([
    ['a number', 5],
    ['a text', '<|im_start|>'],
    ['ids as text', ['1']],
    ['a negative id', [1, -1]],
    ['a fraction', [1.5]],
    ['nested lists', [[1]]],
    ['an id above any vocabulary', [MAX_VOCABULARY]],
    ['too many', Array.from({ length: MAX_INVOCATION_TOKENS + 1 }, () => 1)],
  ])('is refused for %s', async (_, invocation) => {
    const { message, subject } = refusal('alora', () => readAdapter(activated(invocation)));
    expect([message, subject]).toEqual([expect.stringContaining('token ids'), 'alora_invocation_tokens']);
    refusal('not_canonical', () => parseCanonical(forged(JSON.stringify(invocation))));
    await expect(pack(invocation)).rejects.toMatchObject({ code: 'alora' });
  });

  it.each([
    ['an empty list', '[]'],
    ['null', 'null'],
    ['another spelling', '[1,520,9531.0]'],
    ['a space', '[1, 520,9531]'],
    ['minus zero', '[-0]'],
  ])('has one canonical form: %s is refused', (_, text) => {
    refusal('not_canonical', () => parseCanonical(forged(text)));
    expect(parseCanonical(forged('[1,520,9531]')).config.invocation).toEqual(INVOCATION);
  });

  it('takes the most tokens that are allowed', async () => {
    const most = Array.from({ length: MAX_INVOCATION_TOKENS }, (_, i) => i);
    expect((await pack(most)).config.invocation).toEqual(most);
  });

  it('must have ids of its base, where the vocabulary is known', () => {
    const check = (vocabulary?: number) =>
      validateAdapter({
        adapter: file(INVOCATION),
        base: vocabulary === undefined ? base : { ...base, vocabulary },
      }).map(({ code, message }) => [code, message]);
    expect(check(9_531)).toEqual([['alora', expect.stringContaining('token 9531')]]);
    expect([check(9_532), check()]).toEqual([[], []]);
  });
});

describe('several activated adapters', () => {
  it('are summed only if all have the same tokens', () => {
    const acting = { invocation: INVOCATION };
    expect(commonInvocation([acting, { invocation: [...INVOCATION] }])).toEqual(INVOCATION);
    expect(commonInvocation([{}, {}])).toBeUndefined();
    for (const other of [{}, { invocation: [1] }])
      refusal('parent_mismatch', () => commonInvocation([acting, other]));
  });

  it('form a chain in which a child of an activated adapter is activated too', async () => {
    const entry = (digit: string, invocation: readonly number[] | undefined, parent: string | null) => ({
      ...{ digest: digit.repeat(64), scale: 1 },
      config: parseCanonical(encodeCanonical({ base: BASE_ID, parent, modules, invocation })).config,
    });
    const plain = entry('1', undefined, null);
    const middle = entry('2', [1, 2], await chainId([plain]));
    const id = await chainId([plain, middle]);
    expect(await checkLineage([plain, middle, entry('3', INVOCATION, id)])).toBeNull();
    const refused = await checkLineage([plain, middle, entry('3', undefined, id)]);
    expect([refused?.code, refused?.message]).toEqual([
      'parent_mismatch',
      expect.stringContaining('acts on every token'),
    ]);
  });
});
