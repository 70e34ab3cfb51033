import { describe, expect, it } from 'vitest';
import { convertPeftAdapter } from '../../adapters/index.ts';
import { filled, peftFiles, peftTensors, Q, refusal, V } from './make-adapter.ts';

describe('convertPeftAdapter', () => {
  it('scale = alpha / r', () => {
    const { modules, baseModel } = convertPeftAdapter(peftFiles());
    expect(modules.map(({ name, rank, alpha, scale }) => [name, rank, alpha, scale])).toEqual([
      [Q, 2, 4, 2],
      [V, 2, 4, 2],
    ]);
    expect(baseModel).toBe('someone/Tiny-Llama');
  });

  it('scale = alpha / sqrt(r) under rsLoRA, with the rank of the module', () => {
    const tensors = peftTensors()
      .set(`base_model.model.${V}.lora_A.weight`, filled(4, 4))
      .set(`base_model.model.${V}.lora_B.weight`, filled(2, 4));
    const { modules } = convertPeftAdapter(
      peftFiles({ use_rslora: true, rank_pattern: { v_proj: 4 }, alpha_pattern: { q_proj: 3 } }, tensors),
    );
    expect(modules[0]?.scale).toBeCloseTo(3 / Math.sqrt(2), 12);
    expect(modules[1]?.scale).toBe(4 / 2);
    for (const { alpha, rank, scale } of modules) expect(scale).toBe(alpha / rank);
  });

  it('keeps the type and the bytes of the tensors', () => {
    const { modules } = convertPeftAdapter(peftFiles({}, peftTensors(2, 'BF16')));
    expect(modules[0]?.a).toEqual(filled(2, 4, 'BF16'));
  });

  it('refuses a rank that is not that of the tensors, naming both', () => {
    const { message, subject } = refusal('rank_mismatch', () => convertPeftAdapter(peftFiles({ r: 3 })));
    expect(message).toContain('rank 2');
    expect(message).toContain('says 3');
    expect(subject).toBe(Q);
    refusal('rank_mismatch', () => convertPeftAdapter(peftFiles({ rank_pattern: { q_proj: 8 } })));
  });

  it.each([
    ['a zip of torch.save', [0x50, 0x4b, 3, 4, 0, 0, 0, 0, 0, 0], 'pickle_refused'],
    ['a bare pickle', [0x80, 2, 0x7d, 0x71, 0, 0, 0, 0, 0x2e], 'pickle_refused'],
    ['a GGUF file', [0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0, 0, 0], 'format_unknown'],
  ] as const)('refuses %s by its content', (_, bytes, code) => {
    refusal(code, () => convertPeftAdapter({ ...peftFiles(), safetensors: Uint8Array.from(bytes) }));
  });

  it('does not take a header of 640 bytes for a pickle', () => {
    const files = peftFiles();
    const length = new DataView(files.safetensors.buffer).getUint32(0, true);
    const header = files.safetensors.slice(8, 8 + length);
    const padded = Uint8Array.from([
      0x80,
      2,
      0,
      0,
      0,
      0,
      0,
      0,
      ...header,
      ...new Array<number>(640 - length).fill(0x20),
      ...files.safetensors.slice(8 + length),
    ]);
    expect(convertPeftAdapter({ ...files, safetensors: padded }).modules).toHaveLength(2);
  });
});
