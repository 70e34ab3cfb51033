import { describe, expect, it } from 'vitest';
import { HELP, ConfigError, readConfig } from '../../../gpu-origin/config.ts';
import { progressReporter } from '../../../gpu-origin/log.ts';
import { FITTING_ROWS, FIXED_ROWS } from '../../../gpu-origin/runtime/memory-plan.ts';

const secret = Buffer.alloc(32, 1).toString('base64');
const env = { GRAFT_ORIGIN_KEYS: `k1:${secret}`, GRAFT_CACHE: '/tmp/cache' };
const dev = ['--base', 'base.gguf', '--dev'];

describe('readConfig', () => {
  it('reads flags and environment, with defaults', () => {
    expect(readConfig(['--base', '/b.gguf', '--origin-id', 'o1'], env)).toMatchObject({
      basePath: '/b.gguf',
      weights: 'int8',
      provider: 'auto',
      precision: 'auto',
      host: '127.0.0.1',
      port: 8788,
      slots: undefined,
      maxQueue: 256,
      cacheDir: '/tmp/cache',
      graceMs: 0,
      mode: { kind: 'signed', originId: 'o1', keys: [{ kid: 'k1' }] },
    });
    expect(
      readConfig(
        [...dev, '--adapter', 'a=x', '--adapter', 'a/b=/y=z', '--parent', 'a/b=a', '--port', '0'],
        {},
      ),
    ).toMatchObject({
      port: 0,
      mode: {
        kind: 'dev',
        adapters: [
          { name: 'a', parent: null },
          { name: 'a/b', folder: '/y=z', parent: 'a' },
        ],
      },
    });
    expect(readConfig(['--base', 'b', '--origin-id', 'o1', '--host', '0.0.0.0'], env)?.graceMs).toBe(5_000);
    const logged = (share: string) => readConfig([...dev, '--log-sample', share], {})?.logSample;
    expect([readConfig(dev, {})?.logSample, logged('0.25'), logged('1')]).toEqual([0, 0.25, 1]);
    expect([readConfig(dev, {})?.train, readConfig([...dev, '--train'], {})?.train]).toEqual([false, true]);
    expect(readConfig(['--help'], {})).toBeNull();
  });

  it.each<[string, string[], NodeJS.ProcessEnv, RegExp]>([
    ['an unknown flag', ['--bse', 'x'], {}, /--bse/],
    ['an unknown variable', dev, { GRAFT_ORIGIN_KEY: 'x' }, /GRAFT_ORIGIN_KEY\./],
    ['no base', ['--dev'], {}, /--base/],
    ['no keys', ['--base', 'b', '--origin-id', 'o'], {}, /GRAFT_ORIGIN_KEYS/],
    ['short keys', ['--base', 'b', '--origin-id', 'o'], { GRAFT_ORIGIN_KEYS: 'k:YWJj' }, /3 bytes/],
    ['an odd id', ['--base', 'b', '--origin-id', '../x'], env, /--origin-id/],
    ['--dev for others', [...dev, '--host', '0.0.0.0'], {}, /this machine only/],
    ['adapters without --dev', ['--base', 'b', '--origin-id', 'o', '--adapter', 'a=b'], env, /--dev/],
    ['a share above 1', [...dev, '--log-sample', '1.5'], {}, /--log-sample must be a number from 0 to 1/],
    ['a port out of range', [...dev, '--port', '65536'], {}, /0 to 65535/],
    [
      'training beside vLLM',
      [...dev, '--train', '--engine', 'vllm', '--engine-url', 'http://127.0.0.1:8000'],
      {},
      /--train needs --engine native/,
    ],
    ['no slots', [...dev, '--slots', '0'], {}, /--slots/],
    ['a number that is none', [...dev, '--threads', '2x'], {}, /--threads/],
    ['odd weights', [...dev, '--weights', 'q4'], {}, /--weights must be int8, int4 or f32/],
    ['an unknown provider', [...dev, '--provider', 'gpu'], {}, /--provider must be auto, cpu, webgpu or web/],
    ['an unknown format of keys and values', [...dev, '--kv', 'f16'], {}, /--kv must be auto, int8 or f32/],
    ['an unknown precision', [...dev, '--precision', 'f8'], {}, /--precision must be auto, f32 or f16/],
    ['a bad name', [...dev, '--adapter', 'A=b'], {}, /a-z/],
    ['a name twice', [...dev, '--adapter', 'a=b', '--adapter', 'a=c'], {}, /twice/],
    ['an unknown parent', [...dev, '--adapter', 'a=b', '--parent', 'a=c'], {}, /--adapter c/],
    [
      'a circle',
      [...dev, '--adapter', 'a=b', '--adapter', 'c=d', '--parent', 'a=c', '--parent', 'c=a'],
      {},
      /ancestor/,
    ],
  ])('refuses %s', (_what, args, environment, message) => {
    expect(() => readConfig(args, environment)).toThrow(ConfigError);
    expect(() => readConfig(args, environment)).toThrow(message);
  });

  it('never repeats a secret', () => {
    const call = () => readConfig(['--base', 'b', '--origin-id', 'o'], { GRAFT_ORIGIN_KEYS: 'k:c2VjcmV0' });
    expect(call).toThrow(/6 bytes/);
    expect(call).not.toThrow(/c2VjcmV0/);
    const { least, most } = FITTING_ROWS;
    expect(HELP).toContain(`as many as fit in memory, ${least} to ${most} (webgpu and web: ${FIXED_ROWS});`);
  });
});

describe('progressReporter', () => {
  it('writes a line per ten per cent, and reports every per cent once', () => {
    const lines: string[] = [];
    const told: string[] = [];
    const report = progressReporter({
      stderr: { write: (text) => lines.push(text) },
      onPercent: (stage, percent) => told.push(`${stage} ${percent}`),
    });
    for (let i = 0; i <= 200; i += 1) report('Building', i, 200);
    report('Loading', 1, 1);
    expect(lines).toHaveLength(12);
    expect(lines[1]).toBe('Building: 10 %\n');
    expect(told).toHaveLength(102);
    expect(told.slice(-2)).toEqual(['Building 100', 'Loading 100']);
  });
});
