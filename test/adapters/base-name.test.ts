import { describe, expect, it } from 'vitest';
import { checkBaseName } from '../../adapters/pack-adapter.ts';
import { refusal } from './make-adapter.ts';

const BASE = 'smollm2-135m-instruct';
const check = (baseModel: string | null, baseId = BASE) =>
  checkBaseName({ baseModel, baseId, path: 'adapter_config.json', subject: 'base_model_name_or_path' });

describe('checkBaseName', () => {
  it.each(['HuggingFaceTB/SmolLM2-135M-Instruct', BASE, '/home/me/SmolLM2-135M-Instruct'])(
    '%s is the same',
    (name) => {
      expect(check(name)).toBeNull();
    },
  );

  it.each([
    'mlx-community/SmolLM2-135M-Instruct-4bit',
    'mlx-community/SmolLM2-135M-Instruct-8bit',
    'mlx-community/SmolLM2-135M-Instruct-bf16',
    'mlx-community/SmolLM2-135M-Instruct-4bit-DWQ',
    'unsloth/SmolLM2-135M-Instruct-bnb-4bit',
    'unsloth/SmolLM2-135M-Instruct-unsloth-bnb-4bit',
    'someone/SmolLM2-135M-Instruct-GPTQ-Int4',
  ])('%s is a copy, with a warning', (name) => {
    expect(check(name)).toContain('converted or quantised copy');
  });
  it('recognises a base that is itself a copy', () => {
    expect(check('HuggingFaceTB/SmolLM2-135M-Instruct', `${BASE}-bf16`)).toContain('copy');
    expect(check(`a/${BASE}-bf16`, `${BASE}-bf16`)).toBeNull();
  });

  it.each([null, '', './out', `${'-4bit'.repeat(100_000)}!`, 'a/'.repeat(100_000)])(
    '%.20s gives a warning',
    (name) => {
      expect(check(name)?.length).toBeLessThan(400);
    },
  );

  it.each(['mlx-community/SmolLM2-360M-Instruct-4bit', 'HuggingFaceTB/SmolLM2-135M', '4bit', 'gpt2'])(
    '%s is another',
    (name) => {
      const error = refusal('base_mismatch', () => check(name));
      expect(error).toMatchObject({ path: 'adapter_config.json', subject: 'base_model_name_or_path' });
      expect(error.message).toContain(name);
      expect(error.message).toContain('set base_model_name_or_path');
    },
  );
});
