import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EXIT } from '../../../cli/cli-error.ts';
import { MAX_EVAL_ROWS, readEvalRows } from '../../../cli/publish/evaluate-upload.ts';
import { MAX_ROW_BYTES } from '../../../protocol/json-lines.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-rows-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

async function read(content: string | Uint8Array) {
  const file = path.join(folder, 'rows.jsonl');
  await writeFile(file, content);
  return readEvalRows(file);
}

const GOOD = '{"prompt":"a","expected":"b"}';

describe('readEvalRows', () => {
  it('reads both kinds of rows, with their lines and the sha256 of the file', async () => {
    const content = `\ufeff${GOOD}\r\n\n{"user":"u","system":"s","expected":"é"}`;
    expect(await read(content)).toEqual({
      rows: [
        { line: 1, row: { prompt: 'a', expected: 'b' } },
        { line: 3, row: { user: 'u', system: 's', expected: 'é' } },
      ],
      sha256: createHash('sha256').update(content).digest('hex'),
    });
  });

  it.each([
    ['not json', /line 1: not JSON/],
    [`${GOOD}\n[]`, /line 2: /],
    ['{"prompt":"a"}', /line 1: "expected" /],
    ['{"prompt":"a","expected":""}', /line 1: "expected" /],
    ['{"expected":"b"}', /line 1: a row needs either 'prompt' or 'user'/],
    ['{"prompt":"a","user":"b","expected":"c"}', /either 'prompt' or 'user'/],
    ['{"prompt":"a","system":"b","expected":"c"}', /'system' needs 'user'/],
    ['{"prompt":"a","expected":"b","answer":"c"}', /line 1: .*answer/],
    ['1\n2\n3\n4\n5', /line 1: .*; line 2: .*; line 3: .*; and 2 more lines/],
    [JSON.stringify({ prompt: 'a'.repeat(MAX_ROW_BYTES), expected: 'b' }), /longer than/],
    ['\n\n', /has no rows/],
    [Uint8Array.of(0x7b, 0xff), /not UTF-8/],
    [`${GOOD}\n`.repeat(MAX_EVAL_ROWS + 1), /at most 10000/],
  ])('refuses %#', async (content, message) => {
    await expect(read(content)).rejects.toMatchObject({
      exitCode: EXIT.usage,
      message: expect.stringMatching(message) as string,
    });
  });

  it('reports a missing file', async () => {
    await expect(readEvalRows(path.join(folder, 'none'))).rejects.toThrow(/no such file/);
    await expect(readEvalRows(folder)).rejects.toThrow(/no such file/);
  });
});
