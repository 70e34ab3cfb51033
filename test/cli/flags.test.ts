import { describe, expect, it } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { parsePort, refuseUnknownFlags } from '../../cli/flags.ts';

const ARGS = {
  folder: { type: 'positional' },
  name: { type: 'string', alias: 'n' },
  originPort: { type: 'string' },
  examples: { type: 'boolean', default: true },
} as const;

describe('refuseUnknownFlags', () => {
  it.each([
    [['folder', '--name', 'a/b']],
    [['--name=a', '-n', 'b', '--origin-port', '1']],
    [['--no-examples', '--examples']],
    [['--', '--anything']],
    [['-']],
    [['--name', '--weights f32']],
  ])('accepts %j', (argv) => {
    expect(() => refuseUnknownFlags(argv, ARGS)).not.toThrow();
  });

  it.each([
    [['--parnet', 'x'], /Unknown flag --parnet/],
    [['--nmae', 'x'], /Did you mean --name\?/],
    [['--name'], /--name needs a value/],
    [['--name', '--examples'], /--name needs a value/],
    [['--no-name'], /Unknown flag --no-name/],
    [['folder', 'another'], /Unexpected argument 'another'/],
    [['--name', 'a', 'folder', '-'], /Unexpected argument '-'/],
  ])('refuses %j', (argv, message) => {
    expect(() => refuseUnknownFlags(argv, ARGS)).toThrow(message);
    expect(() => refuseUnknownFlags(argv, ARGS)).toThrow(expect.objectContaining({ exitCode: EXIT.usage }));
  });

  it('does not mistake the value of a flag for a flag', () => {
    expect(() => refuseUnknownFlags(['--name', '-odd'], ARGS)).not.toThrow();
  });
});

describe('refuseUnknownFlags, of a last argument that takes any number', () => {
  it('accepts any number of them', () => {
    const args = { first: { type: 'positional' }, 'more...': { type: 'positional' } } as const;
    expect(() => refuseUnknownFlags(['a', 'b', 'c', 'd'], args)).not.toThrow();
  });
});

describe('parsePort', () => {
  it('accepts only valid ports', () => {
    expect(parsePort('0', '--port')).toBe(0);
    expect(parsePort('65535', '--port')).toBe(65_535);
    for (const bad of ['65536', '-1', '1.5', 'http'])
      expect(() => parsePort(bad, '--port')).toThrow(/--port/);
  });
});
