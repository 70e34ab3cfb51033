import { PassThrough } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { createOutput, fileSize, plainTable, progressLine } from '../../cli/output.ts';
import { writtenTo } from '../fixtures/written-to.ts';

const capture = (terminal: boolean, json: boolean) => {
  const stdout = new PassThrough();
  const stderr = Object.assign(new PassThrough(), { isTTY: terminal });
  return {
    output: createOutput({ json, stdout, stderr }),
    stdout: () => writtenTo(stdout),
    stderr: () => writtenTo(stderr),
  };
};

describe('createOutput', () => {
  it('prints text, or JSON when asked', () => {
    const plain = capture(false, false);
    plain.output.result({ a: 1 }, () => 'one');
    expect(plain.stdout()).toBe('one\n');
    const json = capture(false, true);
    json.output.result({ a: 1 }, () => 'one');
    json.output.note('not for machines');
    expect(json.stdout()).toBe('{"a":1}\n');
    expect(json.stderr()).toBe('');
  });

  it('draws progress on a terminal only', () => {
    const pipe = capture(false, false);
    pipe.output.progress('base').update(1, 2);
    expect(pipe.stderr()).toBe('');
    const terminal = capture(true, false);
    const bar = terminal.output.progress('base');
    bar.update(50e6, 100e6);
    bar.end('done');
    expect(terminal.stderr()).toBe(`\r\u001b[2K${progressLine('base', 50e6, 100e6)}\r\u001b[2Kdone\n`);
  });
});

describe('progressLine', () => {
  it('never exceeds its width', () => {
    expect(progressLine('x', 0, 0)).toContain('░'.repeat(24));
    expect(progressLine('x', 300, 100)).toContain('█'.repeat(24));
    expect(progressLine('x', 1, 3, 'percent')).toBe(`x  ${'█'.repeat(8)}${'░'.repeat(16)}  33 %`);
    expect(progressLine('x', 5e6, 10e6)).toBe(`x  ${'█'.repeat(12)}${'░'.repeat(12)}  5.0 MB of 10 MB`);
  });
});

describe('fileSize', () => {
  it('never says 0.0 MB', () => {
    expect([1, 11_392, 99_999, 100_000, 9.8e6].map(fileSize)).toEqual([
      '1 kB',
      '12 kB',
      '100 kB',
      '0.1 MB',
      '9.8 MB',
    ]);
  });
});

describe('plainTable', () => {
  it('aligns columns without borders', () => {
    const lines = plainTable(
      ['name', 'version'],
      [
        ['medicine/cardiology', '1'],
        ['a', '12'],
      ],
    ).split('\n');
    expect(lines.slice(1)).toEqual(['medicine/cardiology  1', 'a                    12']);
  });

  it('takes rows by the hundred thousand, and knows how wide letters are', () => {
    const rows = Array.from({ length: 150_000 }, (_, i) => [`n${i}`, '1']);
    const table = plainTable(['name', 'version'], [['日本', 'two\nlines'], ...rows]);
    const lines = stripVTControlCharacters(table).split('\n');
    expect(lines).toHaveLength(150_003);
    expect(lines.slice(0, 4)).toEqual(['name     version', '日本     two', '         lines', 'n0       1']);
  });

  describe('in colour', () => {
    afterEach(() => {
      vi.unstubAllEnvs();
    });

    it('prints no trailing spaces, and the same text as without colours', async () => {
      const rows = [
        ['a', 'x'],
        ['b', 'longer'],
      ];
      const head = ['name', 'state     '];
      vi.stubEnv('FORCE_COLOR', '1');
      // A second copy, made with the variable set. Resetting all modules would load ONNX Runtime's library twice into the
      // process that test files share.
      const copy = '../../cli/output.ts?in-colour';
      const made: { plainTable: typeof plainTable } = await import(/* @vite-ignore */ copy);
      const coloured = made.plainTable(head, rows);
      expect(coloured).not.toBe(stripVTControlCharacters(coloured));
      expect(stripVTControlCharacters(coloured).split('\n')).toEqual([
        'name  state',
        'a     x',
        'b     longer',
      ]);
    });
  });
});
