import { describe, expect, it } from 'vitest';
import {
  parseTargets,
  readTrainingRequest,
  sameCommand,
  trainingFlags,
} from '../../../cli/train/training-flags.ts';
import { TRAINABLE, TrainingRequest } from '../../../protocol/training.ts';

const defaults = Object.fromEntries(
  Object.entries(trainingFlags).map(([name, flag]) => [name, 'default' in flag ? flag.default : undefined]),
);
const read = (flags: Record<string, string> = {}) => readTrainingRequest({ ...defaults, ...flags });

describe('readTrainingRequest', () => {
  it('leaves rate and batch to the program', () => {
    expect(read()).toEqual({
      ...{
        method: 'sft',
        rank: 8,
        alpha: 16,
        targets: [...TRAINABLE],
        epochs: 3,
      },
      ...{ least_steps: 60, rate: null, batch: null, max_length: 1_024, validation: 0.1, seed: 0, beta: 0.1 },
    });
    expect(TrainingRequest.safeParse(read()).success).toBe(true);
  });

  it('leaves the rate to the program, and has twice the rank for alpha', () => {
    expect(read({ method: 'dpo' })).toMatchObject({ method: 'dpo', rate: null });
    expect(read({ method: 'dpo', rate: '2e-6', rank: '4' })).toMatchObject({ rate: 2e-6, rank: 4, alpha: 8 });
    expect(read({ epochs: '0.5', alpha: '1' })).toMatchObject({ epochs: 0.5, alpha: 1 });
  });

  it.each([
    ['rank', '257', 'is not a whole number from 1 to 256'],
    ['rank', '', 'is not a whole number'],
    ['rank', '1.5', 'is not a whole number'],
    ['rate', '2', 'is not a number above 0, at most 1'],
    ['epochs', 'many', 'is not a number above 0, at most 100'],
    ['max-length', '8', 'is not a whole number from 16 to 4096'],
    ['val', '0.9', 'is not a share from 0 to 0.5'],
    ['seed', '-1', 'is not a whole number from 0'],
    ['batch', '300', 'is not a whole number from 1 to 256'],
    ['activated', '', 'is neither a text nor a list of 1 to 256 token ids'],
    ['activated', '16777216', 'is neither a text nor'],
    ['activated', '1,'.repeat(256) + '1', 'is neither a text nor'],
  ])('refuses --%s %s', (flag, value, message) => {
    expect(() => read({ [flag]: value })).toThrow(message);
  });
});

describe('--activated', () => {
  it.each([
    ['1,520, 9531', { activated: [1, 520, 9_531] }],
    ['[1, 2]', { activated: [1, 2] }],
    ['7', { activated: [7] }],
    [String.raw`<|im_start|>assistant\n`, { activated_by: '<|im_start|>assistant\n' }],
    ['call 7', { activated_by: 'call 7' }],
  ])('%s', (value, wanted) => {
    const { activated, activated_by } = read({ activated: value });
    expect({ activated, activated_by }).toEqual({ activated: undefined, activated_by: undefined, ...wanted });
  });
});

describe('parseTargets', () => {
  it.each([
    ['all', [...TRAINABLE]],
    ['v,q', ['q', 'v']],
    ['out_proj,in_proj_qkv,q', ['q', 'in_proj_qkv', 'out_proj']],
    ['q_proj, v_proj,q', ['q', 'v']],
  ])('%s', (text, targets) => {
    expect(parseTargets(text)).toEqual(targets);
  });

  it.each(['', ',', 'q,all', 'lm_head', 'constructor'])('refuses %j with the right ones', (text) => {
    expect(() => parseTargets(text)).toThrow(
      /Use all, or a list of q, k, v, o, gate, up, down, in_proj_qkv, in_proj_z, in_proj_b, in_proj_a, out_proj, per_layer_input_gate, per_layer_projection\./,
    );
  });
});

it('repeats a command so that a shell reads the same words', () => {
  const rawArgs = ['my rows.jsonl', '--why', "it's late", '--resume', '--rank=4'];
  expect(sameCommand(rawArgs, '--restart')).toBe(
    String.raw`graft train 'my rows.jsonl' --why 'it'\''s late' --rank=4 --restart`,
  );
  expect(sameCommand(['a', '--restart'], '')).toBe('graft train a');
});
