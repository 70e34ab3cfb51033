/** Rows of an evaluation are checked on the page before they are sent. */
import { describe, expect, it } from 'vitest';
import {
  isRowsFile,
  judgeProblem,
  labelOf,
  labelProblem,
  readEvaluationRows,
} from '../../dashboard/api/evaluation-rows.ts';
import { MAX_KEPT_EVALUATION_BYTES, MAX_KEPT_ROWS } from '../../protocol/admin-api/evaluations.ts';

const GOOD = '{"user":"a","expected":"b"}';
const read = (content: string | Uint8Array<ArrayBuffer>, judged = false) =>
  readEvaluationRows(new File([content], 'rows.jsonl'), judged);

describe('readEvaluationRows', () => {
  it('reads rows, and skips empty lines', async () => {
    expect(await read(`${GOOD}\r\n\n{"prompt":"p","expected":"é"}\n`)).toEqual({
      ok: true,
      value: [
        { user: 'a', expected: 'b' },
        { prompt: 'p', expected: 'é' },
      ],
    });
  });

  it('takes questions without an expected answer if they are judged', async () => {
    const rows = [{ user: 'a' }, { system: 's', user: 'b', expected: 'c' }];
    const text = rows.map((row) => JSON.stringify(row)).join('\n');
    expect(await read(text, true)).toEqual({ ok: true, value: rows });
    expect(await read(text)).toMatchObject({ ok: false });
    expect(await read('{"prompt":"p","expected":"e"}', true)).toEqual({
      ok: false,
      error: expect.stringContaining('line 1: "user" must be a text') as string,
    });
  });

  it.each<[string | Uint8Array<ArrayBuffer>, string]>([
    [`${GOOD}\nno\n{"user":"a"}`, 'rows.jsonl, line 2: not JSON; line 3: "expected" '],
    ['1\n2\n3\n4\n5', 'and 2 more lines. Correct the file and choose it again.'],
    ['\n\n', 'rows.jsonl has no rows.'],
    [Uint8Array.of(0x7b, 0xff), 'rows.jsonl is not UTF-8 text.'],
    [`${GOOD}\n`.repeat(MAX_KEPT_ROWS + 1), `has 2001 rows. An evaluation keeps at most 2000.`],
    [
      `{"user":"${'a'.repeat(200_000)}","expected":"b"}\n`.repeat(11),
      `An evaluation keeps at most ${MAX_KEPT_EVALUATION_BYTES} bytes of rows.`,
    ],
    ['\n'.repeat(2 * MAX_KEPT_EVALUATION_BYTES + 1), 'rows.jsonl is too large.'],
  ])('refuses %#', async (content, why) => {
    expect(await read(content)).toEqual({ ok: false, error: expect.stringContaining(why) as string });
  });
});

it.each([
  ['Holdout.jsonl', 'holdout'],
  ['a.b.jsonl', 'a.b'],
  ['rows', 'rows'],
  ['.jsonl', '.jsonl'],
])('suggests a label for %s', (file, label) => {
  expect(labelOf(file)).toBe(label);
});

it.each([
  ['holdout', null],
  ['a.b', 'A label must be 1 to 32 of a-z, 0-9, "_" or "-", starting with a letter.'],
])('checks the label %s', (label, problem) => {
  expect(labelProblem(label)).toBe(problem);
});

it.each([
  ['base', null],
  ['medicine', null],
  ['medicine/cardiology@3', null],
  ['medicine@', 'A judge must be "base", "<name>" or "<name>@<version>".'],
])('checks the judge %s', (judge, problem) => {
  expect(judgeProblem(judge)).toBe(problem);
});

it.each([
  ['rows.jsonl', true],
  ['rows.NDJSON', true],
  ['adapter_config.json', false],
  ['model.gguf', false],
])('tells rows from adapters: %s', (name, expected) => {
  expect(isRowsFile({ name })).toBe(expected);
});
