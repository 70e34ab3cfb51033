import fc from 'fast-check';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { TerminalInput, withLineBreaks } from '../../../cli/chat/converse.ts';

async function keysOf(chunks: readonly (string | Buffer)[]): Promise<string> {
  const input = new TerminalInput(new Readable({ read: () => undefined }));
  let keys = '';
  input.on('data', (text: string) => (keys += text));
  for (const chunk of chunks) input.write(chunk);
  await new Promise<void>((resolve) => input.end(resolve));
  return keys;
}

const PASTED = 'see:\u001b[200~one\r\ntwo\nthree\u001b[201~\r';

describe('TerminalInput', () => {
  it('turns pasted lines into one line, which has its breaks back as a turn', async () => {
    const keys = await keysOf([PASTED]);
    expect(keys).toBe('see:one⏎two⏎three\r');
    expect(withLineBreaks(keys.trim())).toBe('see:one\ntwo\nthree');
  });

  it('does so however the keys are split, even within a letter', async () => {
    const bytes = Buffer.from(PASTED.replace('two', 'zwölf'));
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 6 }),
        async (cuts) => {
          const at = [0, ...cuts.sort((a, b) => a - b), bytes.length];
          const chunks = at.slice(1).map((end, i) => bytes.subarray(at[i], end));
          const keys = await keysOf(chunks);
          // A cut behind the first two bytes of a mark is a key of its own (Escape, then a bracket).
          if (!keys.includes('\u001b')) expect(keys).toBe('see:one⏎zwölf⏎three\r');
        },
      ),
    );
  });

  it('leaves other keys alone', async () => {
    for (const keys of ['\u001b', '\u001b[A', '\u001b[2~', 'abc\r', '\u0004'])
      expect(await keysOf([keys])).toBe(keys);
  });

  it('buffers keys while it is held, and reports only Ctrl-C', async () => {
    const input = new TerminalInput(new Readable({ read: () => undefined }));
    const seen: string[] = [];
    input.on('data', (text: string) => seen.push(text));
    input.on('interrupt', () => seen.push('interrupt'));
    input.hold();
    input.write('next ');
    input.write('\u0003');
    input.write('turn\r');
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual(['interrupt']);
    input.release();
    await new Promise((resolve) => setImmediate(resolve));
    expect(seen).toEqual(['interrupt', 'next turn\r']);
  });
});
