/** `show`, `pack`, `convert`, `compose` and `diff` as people run them, on the example adapters. */
import { createHash } from 'node:crypto';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chainId } from '../../protocol/identity.ts';
import { TINY_ADAPTERS, writeTinyAdapter, writeTinyBase, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { runGraft, type Finished } from './graft-process.ts';

const example = (name: string): string =>
  fileURLToPath(new URL(`../../examples/adapters/${name}`, import.meta.url));
const MEDICINE = example('medicine');
const BASE_ID = 'smollm2-135m-instruct';

let folder: string;
const at = (...parts: string[]): string => path.join(folder, ...parts);
/** No server, no cache but an empty one. */
const graft = (...args: string[]): Promise<Finished> =>
  runGraft(args, { cwd: folder, env: { GRAFT_CACHE: at('cache'), HOME: folder } });

/** @returns what `--json` prints. */
async function graftJson(...args: string[]): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await graft(...args, '--json');
  expect([code, stderr]).toEqual([0, '']);
  return JSON.parse(stdout) as Record<string, unknown>;
}

async function refused(args: string[], code: number, message: RegExp): Promise<Finished> {
  const finished = await graft(...args);
  expect([finished.code, finished.stderr]).toEqual([code, expect.stringMatching(message)]);
  return finished;
}

const sha256 = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
const widest = (text: string): number => Math.max(...text.split('\n').map((line) => line.length));

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-files-'));
  writeTinyBase(at('tiny-base'));
  for (const [name, adapter] of Object.entries(TINY_ADAPTERS)) writeTinyAdapter(at(name), adapter);
  writeTinyAdapter(at('zero'), { ...(TINY_ADAPTERS['attention'] as TinyAdapter), size: 0 });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('graft show', () => {
  it('prints every module and the totals', async () => {
    const { code, stdout, stderr } = await graft('show', MEDICINE);
    expect([code, stderr]).toEqual([0, '']);
    const lines = stdout.split('\n');
    expect(lines[0]).toMatch(/^MODULE +RANK +ALPHA +SCALE +DTYPE +IN +OUT +NORM$/);
    expect(lines.filter((line) => line.startsWith('model.layers.'))).toHaveLength(210);
    expect(stdout).toMatch(/^base +HuggingFaceTB\/SmolLM2-135M-Instruct$/m);
    expect(stdout).toMatch(/^parameters +4,884,480 in BF16$/m);
    expect(stdout).toMatch(/^digest +[0-9a-f]{64}$/m);
    expect(widest(stdout)).toBeLessThanOrEqual(100);
  });

  it('sums up by target', async () => {
    const { stdout } = await graft('show', at('patterned'), '--summary');
    expect(stdout).toMatch(/^TARGET +MODULES +RANK +SCALE/m);
    expect(stdout).toMatch(/^self_attn\.q_proj +2 +4 to 12 /m);
    expect(stdout).not.toContain('model.layers');
  });

  it('tells scripts the same', async () => {
    const shown = await graftJson('show', at('attention'));
    expect(shown).toMatchObject({
      path: at('attention'),
      format: 'peft',
      base: 'tiny/tiny-base',
      parent: null,
      rank: 8,
      dtypes: ['F32'],
      digest: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
      packed_bytes: expect.any(Number) as number,
      problems: [],
    });
    const [first] = shown['modules'] as Record<string, unknown>[];
    expect(first).toMatchObject({ rank: 8, alpha: 16, scale: 2, dtype: 'F32', in: 48, out: 48 });
    expect(first?.['norm']).toBeGreaterThan(0);
  });

  it('shows what would be refused, with the reason, and says so by its exit code', async () => {
    const { stdout } = await refused(
      ['show', at('zero'), '--summary'],
      5,
      /would be refused: one problem\.$/m,
    );
    expect(stdout).toMatch(/^problem .*changes nothing.*\(no_op\)$/m);
  });

  it('refuses what cannot be read', async () => {
    await cp(MEDICINE, at('dora'), { recursive: true });
    const config = JSON.parse(await readFile(at('dora/adapter_config.json'), 'utf8')) as object;
    await writeFile(at('dora/adapter_config.json'), JSON.stringify({ ...config, use_dora: true }));
    const { stdout } = await refused(['show', at('dora')], 5, /dora\/adapter_config\.json: .*\(dora\)/);
    expect(stdout).toBe('');
    await refused(['show', at('nothing')], 2, /nothing: no such file or folder/);
  });
});

describe('graft pack', () => {
  it('writes the same file each time, and nothing over it', async () => {
    const first = await graftJson('pack', MEDICINE, '-o', at('medicine.safetensors'));
    expect(first).toMatchObject({ base: BASE_ID, parent: null, rank: 16, modules: 210, format: 'peft' });
    expect(first['digest']).toBe(await sha256(at('medicine.safetensors')));
    await refused(['pack', MEDICINE, '-o', at('medicine.safetensors')], 2, /exists\. .*--force/);
    const again = await graft(
      'pack',
      at('medicine.safetensors'),
      '-o',
      at('medicine.safetensors'),
      '--force',
    );
    expect(again.code, again.stderr).toBe(0);
    expect(again.stdout).toContain(String(first['digest']));
    expect(await sha256(at('medicine.safetensors'))).toBe(first['digest']);
  });

  it('keeps a parent, and refuses another', async () => {
    const [chain, other] = ['a'.repeat(64), 'b'.repeat(64)];
    const child = at('child.safetensors');
    const packed = await graftJson(
      'pack',
      at('attention'),
      '--out',
      child,
      '--parent-chain',
      chain,
      '--bf16',
    );
    expect(packed).toMatchObject({ parent: chain, base: 'tiny-base' });
    expect(await graftJson('show', child)).toMatchObject({ parent: chain, dtypes: ['BF16'] });
    await Promise.all([
      refused(['pack', child, '-o', at('x'), '--parent-chain', other], 5, /\(parent_mismatch\)/),
      refused(['pack', child, '-o', at('x'), '--parent-chain', 'abc'], 2, /abc: no such file/),
      refused(['pack', MEDICINE, '-o', at('x'), '--parent-chain', child], 5, /\(parent_mismatch\)/),
      refused(['pack', child, '-o', at('x'), '--parent', 'medicine'], 2, /No server/),
    ]);
  });

  it('needs to know the base', async () => {
    await mkdir(at('nameless'));
    await cp(at('attention', 'adapter_model.safetensors'), at('nameless', 'adapter_model.safetensors'));
    await writeFile(
      at('nameless/adapter_config.json'),
      '{"peft_type":"LORA","r":8,"lora_alpha":16,"target_modules":["q_proj","v_proj"]}',
    );
    await refused(['pack', at('nameless'), '-o', at('x')], 2, /does not record its base.*--base-id/);
    const { code, stderr } = await graft('pack', at('nameless'), '-o', at('n'), '--base-id', 'Tiny/Base');
    expect([code, stderr]).toEqual([0, expect.stringMatching(/^warning: .*assuming base\.$/m)]);
    await refused(['pack', at('attention'), '-o', at('x'), '--base-id', 'other'], 5, /\(base_mismatch\)/);
  });
});

describe('graft convert', () => {
  it('to GGUF and back gives the same deltas', async () => {
    const base = ['--base', at('tiny-base')];
    await refused(['convert', at('attention'), '--to', 'gguf', '-o', at('t.gguf')], 2, /--base.*base_needed/);
    expect(
      await graftJson('convert', at('attention'), '--to', 'gguf', '-o', at('t.gguf'), ...base),
    ).toMatchObject({
      to: 'gguf',
      files: [{ path: at('t.gguf'), bytes: expect.any(Number) as number }],
      digest: null,
      dry_run: false,
    });
    await refused(['convert', at('t.gguf'), '--to', 'peft', '-o', at('back')], 2, /base_needed/);
    await graftJson('convert', at('t.gguf'), '--to', 'peft', '-o', at('back'), ...base);
    expect((await readdir(at('back'))).sort()).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const diff = await graftJson('diff', at('attention'), at('back'));
    expect(diff['cosine']).toBeCloseTo(1, 6);
    expect(diff['norm_a']).toBeCloseTo(diff['norm_b'] as number, 4);
    // Its norms do not depend on the base, so it can be looked at without one.
    expect(await graftJson('show', at('t.gguf'))).toMatchObject({ format: 'gguf', digest: null });
  });

  it('to bfloat16, as a canonical file', async () => {
    const { digest, files } = await graftJson('convert', at('everything'), '--to', 'bf16', '-o', at('e16'));
    expect(digest).toBe(await sha256(at('e16')));
    const [{ bytes }] = files as [{ bytes: number }];
    const exact = await graftJson(
      'convert',
      at('everything'),
      '--to',
      'canonical',
      '-o',
      at('e32'),
      '--dry-run',
    );
    expect((exact['files'] as [{ bytes: number }])[0].bytes).toBeGreaterThan(bytes);
    expect(exact['dry_run']).toBe(true);
    expect(await readdir(folder)).not.toContain('e32');
  });

  it('refuses formats and flags that it does not have', async () => {
    await Promise.all([
      refused(['convert', MEDICINE, '--to', 'onnx', '-o', at('x')], 2, /--to/),
      refused(['convert', MEDICINE, '--to', 'peft', '--f16', '-o', at('x')], 2, /--f16 is for --to gguf/),
      refused(['convert', MEDICINE, '--to', 'peft'], 2, /--out/),
    ]);
  });
});

describe('graft compose', () => {
  it('adds up exactly, at the scales that are given', async () => {
    const sum = await graftJson('compose', at('attention'), `${at('everything')}:0.5`, '-o', at('sum'));
    expect(sum).toMatchObject({ rank: 12, sum_rank: 12, base: 'tiny-base', parent: null, relative_error: 0 });
    expect(sum['members']).toMatchObject([{ scale: 1 }, { path: at('everything'), scale: 0.5 }]);
    expect(sum['digest']).toBe(await sha256(at('sum')));
    await graftJson('compose', at('sum'), `${at('everything')}:-0.5`, '--rank', '8', '-o', at('rest'));
    const diff = await graftJson('diff', at('rest'), at('attention'));
    expect(diff['cosine']).toBeCloseTo(1, 6);
  });

  it('cuts ranks down and says what is lost', async () => {
    const { code, stdout, stderr } = await graft(
      ...['compose', MEDICINE, example('dr-lee'), '--rank', '8', '--to', 'peft', '-o', at('cut')],
    );
    expect(code, stderr).toBe(0);
    expect(stderr).toMatch(/^warning: .*medicine does not record what it was trained on/m);
    expect(stdout).toMatch(/^rank +8 of \d+, 210 modules$/m);
    expect(stdout).toMatch(/^error +\d+\.\d+ % of the sum's norm$/m);
    expect(stdout).toMatch(/^worst +model\.layers\.\d+\.\S+, \d+\.\d+ %$/m);
  });

  it('takes a whole chain, and no child on another parent', async () => {
    const root = await graftJson('pack', at('attention'), '-o', at('root'));
    const chain = await chainId([{ digest: String(root['digest']), scale: 1 }]);
    const leaf = await graftJson('pack', at('patterned'), '-o', at('leaf'), '--parent-chain', at('root'));
    expect(leaf['parent']).toBe(chain);
    const both = await chainId([root, leaf].map(({ digest }) => ({ digest: String(digest), scale: 1 })));
    const files = `${at('root')},${at('leaf')}`;
    expect(
      await graftJson('pack', at('everything'), '-o', at('third'), '--parent-chain', files),
    ).toMatchObject({ parent: both });
    expect(await graftJson('compose', at('root'), at('leaf'), '-o', at('chain'))).toMatchObject({
      parent: null,
      warnings: [],
    });
    await Promise.all([
      refused(['compose', `${at('root')}:0.5`, at('leaf'), '-o', at('x')], 5, /\(parent_mismatch\)/),
      refused(['compose', at('attention'), MEDICINE, '-o', at('x')], 5, /\(base_mismatch\)/),
    ]);
  });

  it('refuses scales and ranks that make no sense', async () => {
    await Promise.all([
      refused(['compose', `${MEDICINE}:0`, '-o', at('x')], 2, /a scale must be a number other than 0/),
      refused(['compose', MEDICINE, '-o', at('x'), '--rank', '0'], 2, /--rank 0 is not a rank/),
    ]);
    expect(await readdir(folder)).not.toContain('x');
  });
});

describe('graft diff', () => {
  it('prints cosine and norms, and modules of one side', async () => {
    const { code, stdout, stderr } = await graft(
      'diff',
      example('intent-v1'),
      example('intent-v2'),
      '--summary',
    );
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^TARGET +MODULES +COSINE +NORM A +NORM B$/m);
    expect(stdout).toMatch(/^only in B +30 modules: self_attn\.o_proj x30$/m);
    expect(stdout).toMatch(/^cosine +0\.\d{3} of the whole deltas$/m);
    expect(widest(stdout)).toBeLessThanOrEqual(100);
  });

  it('warns of what is the same', async () => {
    const { code, stdout, stderr } = await graft('diff', at('attention'), at('attention'));
    expect(code).toBe(0);
    expect(stderr).toMatch(/^warning: The deltas have much in common/m);
    expect(stdout).toMatch(/^model\.layers\.0\.self_attn\.q_proj +1\.000 /m);
  });
});
