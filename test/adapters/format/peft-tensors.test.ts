import { describe, expect, it } from 'vitest';
import { readPeftTensors } from '../../../adapters/format/peft-adapter.ts';
import type { Tensor } from '../../../adapters/index.ts';
import { filled, peftTensors, Q, refusal, V } from '../make-adapter.ts';

const withTensor = (name: string) => ({
  metadata: new Map<string, string>(),
  tensors: peftTensors().set(name, filled(2, 2)),
});

describe('readPeftTensors', () => {
  it('pairs A and B by module, sorted', () => {
    const { pairs } = readPeftTensors({
      metadata: new Map(),
      tensors: new Map([...peftTensors()].reverse()),
    });
    expect(pairs.map(({ name, a, b }) => [name, a.shape, b.shape])).toEqual([
      [Q, [2, 4], [6, 2]],
      [V, [2, 4], [2, 2]],
    ]);
  });

  it("takes the adapter's name between lora_A and weight", () => {
    const tensors = new Map(
      [...peftTensors()].map(([name, t]) => [name.replace('.weight', '.default.weight'), t]),
    );
    expect(readPeftTensors({ metadata: new Map(), tensors }).pairs.map(({ name }) => name)).toEqual([Q, V]);
  });

  it('accepts names without base_model.model., if all lack it', () => {
    const tensors = new Map(
      [...peftTensors()].map(([name, t]) => [name.replace('base_model.model.', ''), t]),
    );
    expect(readPeftTensors({ metadata: new Map(), tensors }).pairs.map(({ name }) => name)).toEqual([Q, V]);
    tensors.set(`base_model.model.${Q}.lora_A.weight`, filled(2, 2));
    refusal('unknown_tensor', () => readPeftTensors({ metadata: new Map(), tensors }));
  });

  const renamed = (rename: (name: string) => string) =>
    new Map([...peftTensors()].map(([name, t]) => [rename(name), t]));

  it.each([
    ['base_model.model._orig_mod.model.', Q],
    ['_orig_mod.base_model.model.model.', Q],
    ['base_model.model.', Q.slice('model.'.length)],
    ['base_model.model._orig_mod.', Q.slice('model.'.length)],
    ['', Q.slice('model.'.length)],
  ])('reads names of torch.compile and AutoModel %s…', (prefix, trainedAs) => {
    const tensors = renamed((name) => name.replace('base_model.model.model.', prefix));
    const { pairs } = readPeftTensors({ metadata: new Map(), tensors });
    expect(pairs.map(({ name }) => name)).toEqual([Q, V]);
    expect(pairs[0]!.trainedAs).toBe(trainedAs);
  });

  it('refuses one layer under two names', () => {
    const tensors = peftTensors();
    for (const [name, t] of renamed((n) => n.replace('model.model.', 'model.'))) tensors.set(name, t);
    refusal('duplicate_module', () => readPeftTensors({ metadata: new Map(), tensors }));
  });

  it("skips VeLoRA's projections, which only training reads", () => {
    const tensors = peftTensors();
    tensors.set(`base_model.model.${Q}.lora_velora_embed`, filled(1, 4));
    tensors.set(`base_model.model.${V}.lora_velora_embed.default`, filled(1, 4));
    expect(readPeftTensors({ metadata: new Map(), tensors }).pairs.map(({ name }) => name)).toEqual([Q, V]);
  });

  it('recognises a merged model', () => {
    const tensors = new Map([
      ['lm_head.weight', filled(4, 4)],
      [`${Q}.weight`, filled(6, 4)],
    ]);
    const { message } = refusal('full_weight', () => readPeftTensors({ metadata: new Map(), tensors }));
    expect(message).toMatch(/a model, not an adapter.*merge_and_unload.*--base/);
  });

  const P = `base_model.model.${Q}`;
  it.each([
    [`${P}.lora_magnitude_vector`, 'dora'],
    [`${P}.lora_magnitude_vector.default.weight`, 'dora'],
    [`${P}.lora_diag`, 'kasa'],
    ['base_model.model.model.embed_tokens.lora_embedding_A', 'missing_pair'],
    ['base_model.model.model.embed_tokens.lora_A.weight', 'unknown_tensor'],
    ['base_model.model.transformer.wte.lora_embedding_A', 'embedding_lora'],
    ['base_model.model.lm_head.lora_embedding_B', 'embedding_lora'],
    ['base_model.model.lm_head.base_layer.weight', 'full_weight'],
    [`${P}.lora_B.bias`, 'lora_bias'],
    [`${P}.lora_B.default.bias`, 'lora_bias'],
    [`${P}.base_layer.bias`, 'bias'],
    ['base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta', 'trainable_tokens'],
    ['base_model.model.lm_head.modules_to_save.weight', 'modules_to_save'],
    ['base_model.model.lm_head.weight', 'full_weight'],
    ['base_model.model.model.embed_tokens.weight', 'full_weight'],
    [`${P}.base_layer.weight`, 'full_weight'],
    [`${Q}.lora_A.weight`, 'unknown_tensor'],
    [`${P}.lora_C.weight`, 'unknown_tensor'],
    ['__proto__', 'unknown_tensor'],
    [`${P}.dora_scale`, 'dora'],
    ['x.alpha', 'unknown_tensor'],
    [`${P}.lora_A.other.weight`, 'duplicate_module'],
    ['base_model.model.alone.lora_A.weight', 'missing_pair'],
    ['base_model.model.alone.lora_B.weight', 'missing_pair'],
  ] as const)('%s: %s', (name, code) => {
    const error = refusal(code, () => readPeftTensors(withTensor(name), { path: 'w' }));
    expect(error.path).toBe('w');
    expect(error.subject).toBeTruthy();
  });

  const E = 'base_model.model.model.embed_tokens';
  const H = 'base_model.model.lm_head';
  /** As PEFT 0.21 saves them: with the base's own weights, of nine tokens. */
  const outer = (): Map<string, Tensor> =>
    new Map([
      [`${H}.base_layer.weight`, filled(9, 4)],
      [`${H}.lora_A.weight`, filled(2, 4)],
      [`${H}.lora_B.weight`, filled(9, 2)],
      [`${E}.base_layer.weight`, filled(9, 4)],
      [`${E}.lora_embedding_A`, filled(2, 9)],
      [`${E}.lora_embedding_B`, filled(4, 2)],
    ]);

  it("reads pairs of the head and the embedding, and names the base's own weights beside them", () => {
    const read = (tensors: Map<string, Tensor>) => readPeftTensors({ metadata: new Map(), tensors });
    const { pairs, own } = read(outer());
    expect(pairs.map(({ name, a, b }) => [name, a.shape, b.shape])).toEqual([
      ['lm_head', [2, 4], [9, 2]],
      ['model.embed_tokens', [2, 9], [4, 2]],
    ]);
    expect(own).toEqual(['lm_head', 'model.embed_tokens']);
    const older = new Map(
      [...outer()].map(([name, one]) => [name.replace(/(_embedding_[AB])$/, '$1.default'), one]),
    );
    expect(read(older).pairs).toEqual(pairs);
    const headless = new Map(
      [...outer()].flatMap(([name, one]) =>
        name.startsWith(E) ? [[name.replace('model.model.', 'model.'), one] as const] : [],
      ),
    );
    expect(read(headless)).toMatchObject({
      pairs: [{ name: 'model.embed_tokens' }],
      own: ['model.embed_tokens'],
    });
  });

  it.each([`${H}.base_layer.weight`, `${E}.base_layer.weight`])('refuses another size of %s', (name) => {
    const tensors = outer().set(name, filled(10, 4));
    const { message } = refusal('shape_invalid', () => readPeftTensors({ metadata: new Map(), tensors }));
    expect(message).toMatch(/has the shape \[10, 4\], but the pair of .* is for \[9, 4\]/);
  });

  it('refuses a file without any', () => {
    refusal('empty_adapter', () => readPeftTensors({ metadata: new Map(), tensors: new Map() }));
  });
});
