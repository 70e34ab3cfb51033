import { PassThrough } from 'node:stream';
import { describe, expect, it, vi } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { readSecret } from '../../cli/ask-at-terminal.ts';

/** A terminal on which `text` is typed. */
function terminal(text: string) {
  const raw: boolean[] = [];
  const input = Object.assign(new PassThrough(), { isTTY: true, setRawMode: (on: boolean) => raw.push(on) });
  input.end(text);
  return { input: input as unknown as NodeJS.ReadStream, raw };
}

describe('readSecret', () => {
  it.each([
    ['gk_abc\n', 'gk_abc'],
    ['  gk_abc  \r\nmore', 'gk_abc'],
    ['gk_abc', 'gk_abc'],
    ['', ''],
  ])('takes the first line of a pipe (%j)', async (text, secret) => {
    const pipe = new PassThrough();
    pipe.end(text);
    expect(await readSecret('key: ', pipe)).toBe(secret);
  });

  it('echoes nothing, and supports backspace', async () => {
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const { input, raw } = terminal('gk_ax\u007fbc\r');
    expect(await readSecret('key: ', input)).toBe('gk_abc');
    expect(written.mock.calls.map(([text]) => text)).toEqual(['key: ', '\n']);
    expect(raw).toEqual([true, false]);
    written.mockRestore();
  });

  it('ends with Ctrl-C and Ctrl-D', async () => {
    const written = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const stopped = terminal('gk_\u0003');
    await expect(readSecret('', stopped.input)).rejects.toMatchObject({ exitCode: EXIT.interrupted });
    expect(stopped.raw).toEqual([true, false]);
    expect(await readSecret('', terminal('gk_a\u0004').input)).toBe('gk_a');
    written.mockRestore();
  });
});
