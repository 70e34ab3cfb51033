import { describe, expect, it } from 'vitest';
import { encodeCanonical, validateAdapter, type LoraModule } from '../../adapters/index.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { base, BASE_ID, loraModule, Q, V } from './make-adapter.ts';

const problems = (modules: LoraModule[], of = BASE_ID) =>
  validateAdapter({ adapter: encodeCanonical({ base: of, parent: null, modules }), base });

describe('validateAdapter', () => {
  it('finds nothing wrong with an adapter that fits', () => {
    expect(problems([loraModule(Q, 2, 4, 6), loraModule(V, 16, 4, 2)])).toEqual([]);
  });

  it('names both shapes', () => {
    const [problem, ...others] = problems([loraModule(Q, 2, 5, 7)]);
    expect(others).toEqual([]);
    expect(problem).toMatchObject({ code: 'shape_mismatch', subject: Q });
    for (const shape of ['[2, 5]', '[7, 2]', '[2, 4]', '[6, 2]']) expect(problem?.message).toContain(shape);
  });

  it('refuses a module that the base does not have', () => {
    expect(
      problems([loraModule(Q), loraModule('model.layers.1.self_attn.q_proj'), loraModule('lm_head')]),
    ).toMatchObject([
      { code: 'module_unknown', subject: 'lm_head' },
      { code: 'module_unknown', subject: 'model.layers.1.self_attn.q_proj' },
    ]);
  });

  it.each(['model.language_model', 'language_model.model', 'language_model'])(
    'finds the layers of the text in a model that also sees, below %s',
    (place) => {
      const [q, v] = [Q, V].map((name) => name.replace('model.', `${place}.`)) as [string, string];
      expect(problems([loraModule(q, 2, 4, 6), loraModule(v, 2, 4, 2)])).toEqual([]);
      expect(problems([loraModule(q, 2, 5, 7)])).toMatchObject([{ code: 'shape_mismatch', subject: q }]);
    },
  );

  it('refuses one layer under two names', () => {
    const twice = [loraModule(Q, 2, 4, 6), loraModule(Q.replace('model.', 'model.language_model.'), 2, 4, 6)];
    expect(problems(twice)).toMatchObject([{ code: 'duplicate_module' }]);
  });

  it.each([
    'model.visual.blocks.0.attn.qkv',
    'visual.blocks.0.attn.qkv',
    'model.vision_tower.encoder.layers.0.self_attn.q_proj',
    'vision_tower.vision_model.encoder.layers.0.self_attn.q_proj',
    'model.multi_modal_projector.linear_1',
  ])('refuses %s as a part that sees', (name) => {
    const [problem] = problems([loraModule(name)]);
    expect(problem).toMatchObject({ code: 'module_unknown', subject: name });
    expect(problem?.message).toMatch(/vision tower, and only text is served\. Train with exclude_modules/);
  });

  it('distinguishes what an engine cannot adapt from a layer of another base', () => {
    const names = ['lm_head', 'model.embed_tokens', 'model.layers.1.self_attn.q_proj'];
    const [head, embedding, layer] = problems(names.map((name) => loraModule(name)));
    expect(head?.message).toMatch(/takes no adapters of the head\..*train without "lm_head"/);
    expect(embedding?.message).toMatch(
      /takes no adapters of the embedding of tokens\..*train without "embed_tokens"/,
    );
    expect(layer?.message).toContain('Train against this base.');
  });

  it.each(['', 'model.language_model', 'language_model.model', 'language_model'])(
    'finds the head and the embedding in a model whose text is below "%s"',
    (place) => {
      const outer: BaseInfo = {
        ...base,
        modules: [
          { name: 'model.embed_tokens', in: 9, out: 4 },
          { name: 'lm_head', in: 4, out: 9 },
        ],
      };
      const names =
        place === ''
          ? ['lm_head', 'model.embed_tokens']
          : [
              place === 'model.language_model' ? 'lm_head' : 'language_model.lm_head',
              `${place}.embed_tokens`,
            ];
      const adapter = (inputs: number, outputs: number): Uint8Array =>
        encodeCanonical({
          base: BASE_ID,
          parent: null,
          modules: [loraModule(names[0], 2, 4, 9), loraModule(names[1], 2, inputs, outputs)],
        });
      expect(validateAdapter({ adapter: adapter(9, 4), base: outer })).toEqual([]);
      expect(validateAdapter({ adapter: adapter(4, 9), base: outer })).toMatchObject([
        { code: 'shape_mismatch', subject: names[1] },
      ]);
    },
  );

  it('refuses a rank above what the origin serves', () => {
    expect(problems([loraModule(Q, 17)])).toMatchObject([{ code: 'rank_sum_exceeded', subject: Q }]);
  });

  it('refuses another base', () => {
    expect(problems([loraModule(Q)], 'other')).toMatchObject([{ code: 'base_mismatch' }]);
  });

  it('reports every problem at once, including those of values', () => {
    const bad = loraModule(V, 1, 9, 9);
    bad.a.data.fill(0xff);
    expect(problems([loraModule(Q, 20), bad]).map(({ code }) => code)).toEqual([
      'rank_sum_exceeded',
      'shape_mismatch',
      'non_finite',
    ]);
  });

  it('reports non-canonical bytes as a problem', () => {
    expect(validateAdapter({ adapter: new Uint8Array(4), base })).toMatchObject([{ code: 'truncated_file' }]);
  });
});
