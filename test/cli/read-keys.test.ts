import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { EXIT, interrupted } from '../../cli/cli-error.ts';
import { readKeys } from '../../cli/ask-at-terminal.ts';

/** A terminal, and what its raw mode was set to. */
function terminal() {
  const raw: boolean[] = [];
  const input = Object.assign(new PassThrough(), { setRawMode: (on: boolean) => raw.push(on) });
  return { input: input as unknown as NodeJS.ReadStream & PassThrough, raw };
}

/** @param pieces as they arrive; then the input ends. */
async function keysOf(...pieces: string[]): Promise<string> {
  const { input, raw } = terminal();
  const keys = readKeys({ input });
  const first = keys.next();
  for (const piece of pieces) input.write(piece);
  input.end();
  const { value, done } = await first;
  let typed = done === true ? '' : value;
  for await (const key of keys) typed += key;
  expect(raw).toEqual([true, false]);
  return typed;
}

describe('readKeys', () => {
  it('returns characters one by one, until the input ends', async () => {
    expect(await keysOf('1', '2t', 'Ä')).toBe('12tÄ');
    expect(await keysOf()).toBe('');
  });

  it.each([
    ['Home on two kinds of terminals', ['\u001b[1~', '\u001bOH']],
    ['Ctrl with an arrow', ['\u001b[1;5C']],
    ['F5', ['\u001b[15~']],
    ['Alt with a letter', ['\u001bt']],
    ['Escape twice', ['\u001b\u001b']],
    ['a sequence in two pieces', ['\u001b[1', ';5C']],
    ['a sequence whose escape comes first', ['\u001b', '[2~']],
  ])('drops %s', async (_, pieces) => {
    expect(await keysOf('a', ...pieces, 'z')).toBe('az');
  });

  it('returns a key after a lone Escape', async () => {
    expect(await keysOf('\u001b', '1')).toBe('1');
  });

  it('ends with Ctrl-D, and leaves the input open and idle', async () => {
    const { input, raw } = terminal();
    const keys = readKeys({ input });
    input.write('a\u0004b');
    expect([(await keys.next()).value, (await keys.next()).done]).toEqual(['a', true]);
    expect([raw, input.destroyed, input.isPaused()]).toEqual([[true, false], false, true]);
  });

  it('leaves raw mode when the reader stops', async () => {
    const { input, raw } = terminal();
    input.write('ab');
    for await (const key of readKeys({ input })) {
      expect([key, raw]).toEqual(['a', [true]]);
      break;
    }
    expect([raw, input.destroyed]).toEqual([[true, false], false]);
  });

  it('is interrupted by Ctrl-C, also within a sequence', async () => {
    for (const text of ['\u0003', '\u001b[\u0003']) {
      const { input, raw } = terminal();
      input.write(text);
      await expect(readKeys({ input }).next()).rejects.toMatchObject({ exitCode: EXIT.interrupted });
      expect(raw).toEqual([true, false]);
    }
  });

  it('is interrupted by the signal, before and while it waits', async () => {
    const { input, raw } = terminal();
    const ending = new AbortController();
    const waiting = readKeys({ input, signal: ending.signal }).next();
    ending.abort(interrupted());
    await expect(waiting).rejects.toBe(ending.signal.reason);
    expect(raw).toEqual([true, false]);
    await expect(readKeys({ input, signal: ending.signal }).next()).rejects.toBe(ending.signal.reason);
    expect(raw).toEqual([true, false]);
  });
});
