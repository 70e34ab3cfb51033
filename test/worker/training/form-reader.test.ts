import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createFormReader, formBoundary, MalformedForm } from '../../../worker/training/form-reader.ts';
import { MAX_FORM_HEAD_BYTES, MAX_FORM_PARTS } from '../../../worker/training/limits.ts';

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, 'latin1'));

interface Read {
  name: string;
  filename: string | null;
  text: string;
}

/** @param cuts where the body is cut into chunks. */
async function read(body: Uint8Array<ArrayBuffer>, boundary: string, cuts: readonly number[] = []) {
  const parts: Read[] = [];
  const reader = createFormReader(boundary, {
    part: (part) => void parts.push({ ...part, text: '' }),
    data(bytes) {
      const last = parts.at(-1);
      if (last !== undefined) last.text += Buffer.from(bytes).toString('latin1');
    },
  });
  const places = [...new Set([...cuts, body.length])].sort((a, b) => a - b);
  let from = 0;
  for (const at of places) {
    await reader.push(body.slice(from, at));
    from = at;
  }
  return { parts, ended: reader.ended };
}

const head = (name: string, filename?: string): string =>
  `content-disposition: form-data; name="${name}"${filename === undefined ? '' : `; filename="${filename}"`}`;
const form = (boundary: string, parts: readonly (readonly [head: string, text: string])[]): string =>
  `${parts.map(([top, text]) => `--${boundary}\r\n${top}\r\n\r\n${text}\r\n`).join('')}--${boundary}--\r\n`;

describe('a form', () => {
  it('is read the same wherever it is cut, whatever its parts contain', async () => {
    const boundary = 'ab-c';
    const text = fc
      .array(fc.constantFrom('\r', '\n', '-', 'a', 'b', '\r\n--ab-', '\r\n--', 'é', '\0'), { maxLength: 40 })
      .map((pieces) => pieces.join(''))
      .filter((value) => !`\r\n${value}`.includes(`\r\n--${boundary}`));
    await fc.assert(
      fc.asyncProperty(
        fc.array(text, { minLength: 1, maxLength: 4 }),
        fc.array(fc.nat(600), { maxLength: 30 }),
        async (texts, cuts) => {
          const body = bytesOf(
            form(
              boundary,
              texts.map((value, i) => [head(`f${i}`, `x${i}`), value]),
            ),
          );
          const inside = cuts.filter((at) => at < body.length);
          const wanted = texts.map((value, i) => ({ name: `f${i}`, filename: `x${i}`, text: value }));
          expect(await read(body, boundary, inside)).toEqual({ parts: wanted, ended: true });
        },
      ),
      { numRuns: 300 },
    );
  });

  it('of any bytes is read or refused, and holds no more than it has to', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.constantFrom('\r\n', '--x', '--x--', '\r\n\r\n', head('file', 'a'), head('purpose'), 'a', ' '),
          { maxLength: 30 },
        ),
        async (pieces) => {
          const outcome = await read(bytesOf(pieces.join('')), 'x').catch((error: unknown) => error);
          if (outcome instanceof Error) expect(outcome).toBeInstanceOf(MalformedForm);
        },
      ),
    );
  });

  it('has what its clients write: text before it, folded quotes, a file without bytes', async () => {
    const body = `to be ignored\r\n${form('b', [
      ['Content-Type: text/plain\r\nContent-Disposition: form-data; name=purpose', 'fine-tune'],
      [head('file', 'a%22b\\"c.jsonl'), ''],
    ])}`;
    expect(await read(bytesOf(body), 'b')).toEqual({
      parts: [
        { name: 'purpose', filename: null, text: 'fine-tune' },
        { name: 'file', filename: 'a"b"c.jsonl', text: '' },
      ],
      ended: true,
    });
  });

  it.each<[why: string, body: string]>([
    ['a part without a head', '--b\r\n\r\n\r\nx\r\n--b--'],
    ['a part without a name', `--b\r\ncontent-disposition: form-data; filename="x"\r\n\r\nx\r\n--b--`],
    ['a boundary that goes on', '--bc\r\n'],
    ['a head without an end', `--b\r\n${'a'.repeat(MAX_FORM_HEAD_BYTES + 1)}`],
    [
      'too many parts',
      form(
        'b',
        Array.from({ length: MAX_FORM_PARTS + 1 }, () => [head('a'), ''] as const),
      ),
    ],
  ])('is refused with %s', async (_, body) => {
    await expect(read(bytesOf(body), 'b')).rejects.toBeInstanceOf(MalformedForm);
  });

  it('that is cut off has no end', async () => {
    const body = bytesOf(form('b', [[head('file', 'a'), 'rows']]));
    for (let length = 0; length < body.length - 4; length += 1)
      expect((await read(body.slice(0, length), 'b')).ended).toBe(false);
  });

  it('takes linear time for bytes that look like boundaries', async () => {
    const body = bytesOf(`--b\r\n${head('file', 'a')}\r\n\r\n${'\r\n--'.repeat(1_000_000)}`);
    const before = performance.now();
    await read(body, 'b');
    expect(performance.now() - before).toBeLessThan(5_000);
  });
});

it.each([
  ['multipart/form-data; boundary=abc', 'abc'],
  ['multipart/form-data; charset=utf-8; boundary="a b"', 'a b'],
  ['Multipart/Form-Data;boundary=a', 'a'],
  ['multipart/form-data', null],
  ['multipart/mixed; boundary=a', null],
  [`multipart/form-data; boundary=${'a'.repeat(71)}`, null],
  ['application/json', null],
  [null, null],
])('finds the boundary of %j', (type, boundary) => expect(formBoundary(type)).toBe(boundary));
