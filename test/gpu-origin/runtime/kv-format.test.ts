/** Which format keys and values are served in, and what is measured for it, once. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type CreateRunnerParams, createRunner } from '../../../gpu-origin/runtime/create-runner.ts';
import { type Device, OrtError } from '../../../gpu-origin/runtime/device.ts';
import { NativeDevice, ortLibrary } from '../../../gpu-origin/runtime/native/native-device.ts';
import { int8AttentionFault } from '../../../gpu-origin/runtime/self-test.ts';
import { TINY_LLAMA, writeTinyBase } from '../../fixtures/tiny-base.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-kv-'));
  writeTinyBase(join(folder, 'base'), TINY_LLAMA);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function served(params: Partial<CreateRunnerParams> = {}) {
  const notices: string[] = [];
  let measured = false;
  let memory = '';
  let chosen = '';
  const { runner } = await createRunner({
    ...{
      basePath: join(folder, 'base'),
      cacheDir: join(folder, 'cache'),
      weights: 'int8',
      slots: 2,
      threads: 2,
    },
    provider: 'cpu',
    onNotice: (message) => notices.push(message),
    onMemory: (message) => (memory = message),
    onKv: (message) => (chosen = message),
    onProgress: (stage) => (measured ||= stage.startsWith('Measuring')),
    ...params,
  });
  const { kv, promise } = runner.base;
  await runner.close();
  return { kv, promise, notices, measured, memory, chosen };
}

/** The folder of graphs with int8 weights. */
const built = (): string => {
  const graphs = join(folder, 'cache', 'graphs');
  const found = readdirSync(graphs).find((name) => readdirSync(join(graphs, name)).includes('kv-int8.json'));
  return join(graphs, found!);
};

describe('keys and values', () => {
  const int8 = (params: Partial<CreateRunnerParams> = {}) => served({ kv: 'int8', ...params });

  it('are in int8 where they are asked for, measured once', async () => {
    const first = await int8();
    expect(first).toMatchObject({ kv: 'int8', promise: 'bits', notices: [], measured: true });
    expect(first.memory).toContain('for keys and values in int8 (2 rows of');
    expect(await int8()).toMatchObject({ kv: 'int8', measured: false });
    const int4 = await int8({ weights: 'int4', cacheDir: join(folder, 'int4') });
    expect(int4).toMatchObject({ kv: 'int8', notices: [] });
  });

  it('are in float32 otherwise', async () => {
    for (const params of [{}, { weights: 'f32' }, { provider: 'web' }, { kv: 'f32' }] as const)
      expect(await served(params)).toMatchObject({ kv: undefined, notices: [], measured: false });
    const f32 = await int8({ weights: 'f32', cacheDir: join(folder, 'f32') });
    expect(f32).toMatchObject({ kv: 'int8' });
  });

  it.each(['qv.kv-int8.onnx', 'all.kv-int8-mixed.onnx'])(
    'are measured again where %s is damaged',
    async (file) => {
      const path = join(built(), file);
      const whole = readFileSync(path);
      writeFileSync(path, whole.subarray(0, whole.length - 1));
      expect(await int8()).toMatchObject({ kv: 'int8', measured: true });
      // The same scales, so the same graph.
      expect(readFileSync(path).equals(whole)).toBe(true);
    },
  );

  it('say so where int8 changes answers much', async () => {
    const path = join(built(), 'kv-int8.json');
    const manifest = JSON.parse(readFileSync(path, 'utf8')) as object;
    writeFileSync(path, JSON.stringify({ ...manifest, divergence: 0.25 }));
    const { kv, notices } = await int8();
    expect(kv).toBe('int8');
    expect(notices).toEqual([
      "this base's keys and values in int8 differ much from those in float32 (mean KL 0.25); --kv f32 serves exact ones.",
    ]);
    writeFileSync(path, JSON.stringify(manifest));
  });

  it('are chosen by what int8 changes of the answers', async () => {
    const auto = (params: Partial<CreateRunnerParams> = {}) => served({ kv: 'auto', ...params });
    await int8();
    const path = join(built(), 'kv-int8.json');
    const manifest = JSON.parse(readFileSync(path, 'utf8')) as object;
    const measured = (divergence: number): void =>
      writeFileSync(path, JSON.stringify({ ...manifest, divergence }));
    measured(0.0039);
    const close = await auto();
    expect(close).toMatchObject({ kv: 'int8', promise: 'bits', notices: [], measured: false });
    expect(close.chosen).toBe('keys and values: int8 (mean KL 0.0039 to float32)');
    measured(0.0042);
    const far = await auto();
    expect(far).toMatchObject({ kv: undefined, promise: 'bits', notices: [] });
    expect(far.memory).toContain('for keys and values (2 rows of');
    expect(far.chosen).toBe(
      "keys and values: float32, because int8 changes this base's answers too much (mean KL 0.0042; at most 0.004)",
    );
    writeFileSync(path, JSON.stringify(manifest));
    for (const params of [{ weights: 'f32' }, { provider: 'web' }] as const)
      expect(await auto(params)).toMatchObject({ kv: undefined, notices: [], chosen: '' });
  });

  it('are not in int8 where only float32 is possible', async () => {
    const refused = /--kv int8: provider web keeps keys and values in float32.*\. Remove --kv/;
    await expect(served({ provider: 'web', kv: 'int8' })).rejects.toThrow(refused);
  });
});

describe('attention over int8 keys and values', () => {
  const heads = { heads: 4, kvHeads: 2, headDim: 16 };
  const device = new NativeDevice(ortLibrary(), 2);
  afterAll(() => device.close());
  const changed = (change: Partial<Device>): Device =>
    new Proxy<Device>(device, {
      get: (target, key: keyof Device) => {
        const value = change[key] ?? target[key];
        return typeof value === 'function' ? (value as () => unknown).bind(target) : value;
      },
    });

  it('passes on this processor', async () => {
    expect(await int8AttentionFault(device, heads)).toBeNull();
    expect(await int8AttentionFault(device, { ...heads, attentionCap: 0.5 })).toBeNull();
  });

  it('is refused where the runtime does not have it', async () => {
    const without = changed({
      session: () => Promise.reject(new OrtError('CreateSession', 9, 'no int8\nat line 5')),
    });
    expect(await int8AttentionFault(without, heads)).toBe(
      'this ONNX Runtime has no attention over int8 keys and values (no int8)',
    );
  });

  it('is refused where it is wrong, or differs between one core and all', async () => {
    const harmed = (cores: readonly string[]): Device =>
      changed({
        async session(model, weights, on = 'all') {
          const session = await device.session(model, weights, on);
          if (!cores.includes(on)) return session;
          return {
            close: () => session.close(),
            bind() {
              const binding = session.bind();
              return {
                close: () => binding.close(),
                // Every value is read as another one.
                input: (name, tensor) =>
                  binding.input(name === 'k' ? 'v' : name === 'v' ? 'k' : name, tensor),
                output: (name, tensor) => binding.output(name, tensor),
                run: () => binding.run(),
              };
            },
          };
        },
      });
    expect(await int8AttentionFault(harmed(['all', 'one']), heads)).toMatch(/wrong on this processor/);
    expect(await int8AttentionFault(harmed(['one']), heads)).toMatch(/rounds differently/);
  });
});
