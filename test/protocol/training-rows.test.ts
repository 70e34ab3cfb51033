/** Files of rows as people write them: every shape, and what is said of each line that has none. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { TrainingMethod } from '../../protocol/training.ts';
import {
  csvAsJsonLines,
  csvRecords,
  MAX_ROW_PROBLEMS,
  MAX_ROWS_TEXT_BYTES,
  MAX_TRAINING_ROW_BYTES,
  MAX_TRAINING_ROWS,
  parseRows,
  parseRowsInTurns,
  type Row,
  type RowFormat,
} from '../../protocol/training-rows.ts';

/** The same cases every time. */
fc.configureGlobal({ seed: 20_261_130 });

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);
const parse = (text: string, method: TrainingMethod = 'sft', format: RowFormat = 'jsonl') =>
  parseRows({ bytes: bytesOf(text), format, method });
const message = (role: string, content: string, trained = false) => ({ role, content, trained });
const [question, answer] = [message('user', 'hi'), message('assistant', 'hello', true)];

describe('parseRows', () => {
  it.each<[string, TrainingMethod, object, Row['conversations']]>([
    [
      "OpenAI's chat format",
      'sft',
      {
        messages: [
          { role: 'developer', content: 'Be brief.' },
          {
            role: 'user',
            content: [
              { type: 'text', text: 'h' },
              { type: 'text', text: 'i' },
            ],
            name: 'ann',
          },
          { role: 'assistant', content: 'what?', weight: 0 },
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello', weight: 1, refusal: null, tool_calls: null },
        ],
        tools: null,
      },
      [
        {
          messages: [
            message('system', 'Be brief.'),
            { ...question, name: 'ann' },
            message('assistant', 'what?'),
            question,
            answer,
          ],
        },
      ],
    ],
    [
      'every answer of a chat by default',
      'sft',
      {
        messages: [
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello' },
          { role: 'user', content: 'hi' },
          { role: 'assistant', content: 'hello' },
        ],
      },
      [{ messages: [question, answer, question, answer] }],
    ],
    ['a raw text', 'sft', { prompt: 'a', completion: ' b' }, [{ prompt: 'a', completion: ' b' }]],
    ['an evaluation row', 'sft', { user: 'hi', expected: 'hello' }, [{ messages: [question, answer] }]],
    [
      'an evaluation row with a system text',
      'sft',
      { system: 'Be brief.', user: 'hi', expected: 'hello' },
      [{ messages: [message('system', 'Be brief.'), question, answer] }],
    ],
    ['a raw evaluation row', 'sft', { prompt: 'a', expected: 'b' }, [{ prompt: 'a', completion: 'b' }]],
    [
      "OpenAI's preference format",
      'dpo',
      {
        input: {
          messages: [
            { role: 'user', content: 'hi' },
            { role: 'assistant', content: 'hello' },
            { role: 'user', content: 'hi' },
          ],
        },
        preferred_output: [{ role: 'assistant', content: 'hello' }],
        non_preferred_output: [{ role: 'assistant', content: 'what?' }],
      },
      ['hello', 'what?'].map((content) => ({
        messages: [question, message('assistant', 'hello'), question, message('assistant', content, true)],
      })),
    ],
    [
      'a pair',
      'dpo',
      { user: 'hi', chosen: 'hello', rejected: 'what?' },
      ['hello', 'what?'].map((content) => ({ messages: [question, message('assistant', content, true)] })),
    ],
    [
      'a pair on a raw text',
      'dpo',
      { prompt: 'a', chosen: 'b', rejected: 'c' },
      [
        { prompt: 'a', completion: 'b' },
        { prompt: 'a', completion: 'c' },
      ],
    ],
  ])('reads %s', (_, method, row, conversations) => {
    expect(parse(JSON.stringify(row), method)).toEqual({
      rows: [{ line: 1, conversations }],
      problems: [],
      problemCount: 0,
    });
  });

  const chat = (...messages: object[]) => ({ messages });
  const assistant = { role: 'assistant', content: 'hello' };
  const user = { role: 'user', content: 'hi' };
  const pair = {
    input: { messages: [user] },
    preferred_output: [assistant],
    non_preferred_output: [{ role: 'assistant', content: 'what?' }],
  };

  it.each<[TrainingMethod, unknown, string]>([
    ['sft', 7, 'The row is not a JSON object.'],
    [
      'sft',
      {},
      "The row needs 'messages', or 'prompt' and 'completion', or 'user' or 'prompt' and 'expected', or 'text' and 'label' or 'score'.",
    ],
    [
      'dpo',
      { id: 1 },
      "The row needs 'input', 'preferred_output' and 'non_preferred_output', or 'user' or 'prompt' with 'chosen' and 'rejected'.",
    ],
    ['sft', pair, "The row has two answers, as the method 'dpo' needs them. The method 'sft' learns one."],
    [
      'dpo',
      chat(user, assistant),
      "The row has one answer, as the method 'sft' needs it. The method 'dpo' compares two.",
    ],
    [
      'sft',
      { ...chat(user, assistant), tools: [] },
      "Tools cannot be trained yet. Remove 'tools', or the row.",
    ],
    [
      'sft',
      chat(user, { role: 'assistant', content: null, tool_calls: [{}] }),
      "Tools cannot be trained yet. Remove 'messages[1].tool_calls', or the row.",
    ],
    [
      'sft',
      chat(user, { role: 'tool', content: '4' }, assistant),
      "Tools cannot be trained yet. Remove 'messages[1]', or the row.",
    ],
    [
      'dpo',
      { ...pair, input: { messages: [user], parallel_tool_calls: true } },
      "Tools cannot be trained yet. Remove 'input.parallel_tool_calls', or the row.",
    ],
    [
      'dpo',
      { ...pair, preferred_output: [{ ...assistant, tool_calls: [] }] },
      "Tools cannot be trained yet. Remove 'preferred_output[0].tool_calls', or the row.",
    ],
    ['sft', chat(), "Invalid value for 'messages': must not be empty."],
    ['sft', chat(assistant, user), "Invalid value for 'messages': the last message must be the assistant's."],
    [
      'sft',
      chat({ role: 'robot', content: 'hi' }, assistant),
      "Invalid value for 'messages[0].role': must be 'system', 'developer', 'user' or 'assistant'.",
    ],
    [
      'sft',
      chat(user, { ...assistant, weight: 0.5 }),
      "Invalid value for 'messages[1].weight': must be 0 or 1.",
    ],
    [
      'sft',
      chat({ ...user, weight: 1 }, assistant),
      "Invalid value for 'messages[0].weight': only an assistant's message has a weight.",
    ],
    [
      'sft',
      chat(user, { ...assistant, content: '' }),
      "Invalid value for 'messages[1].content': must not be empty.",
    ],
    [
      'sft',
      chat({ role: 'user', content: [{ type: 'image_url', image_url: {} }] }, assistant),
      "Invalid value for 'messages[0].content': must be a string or an array of text parts.",
    ],
    ['sft', chat({ ...user, text: 'x' }, assistant), "Unknown field 'messages[0].text'."],
    ['sft', { prompt: 'a', completion: '' }, "Invalid value for 'completion': must not be empty."],
    ['sft', { prompt: 'a', completion: 'b', id: 1 }, "Unknown field 'id'."],
    ['sft', { expected: 'b' }, "A row needs either 'prompt' or 'user'."],
    ['dpo', { user: 'a', prompt: 'a', chosen: 'b', rejected: 'c' }, "A row needs either 'prompt' or 'user'."],
    [
      'dpo',
      { prompt: 'a', system: 'a', chosen: 'b', rejected: 'c' },
      "'system' needs 'user'; it cannot be combined with 'prompt'.",
    ],
    ['dpo', { user: 'a', chosen: 'b', rejected: 'b' }, 'The chosen and the rejected answer are the same.'],
    [
      'dpo',
      { ...pair, preferred_output: [assistant, assistant] },
      "Invalid value for 'preferred_output': must be one assistant's message.",
    ],
    [
      'dpo',
      { ...pair, preferred_output: [user] },
      "Invalid value for 'preferred_output[0].role': must be 'assistant'.",
    ],
  ])('refuses for %s: %j', (method, row, problem) => {
    expect(parse(`\n${JSON.stringify(row)}`, method)).toEqual({
      rows: [],
      problems: [{ line: 2, problem }],
      problemCount: 1,
    });
  });

  const row = '{"prompt": "a", "completion": "b"}';

  it('counts lines from 1, skips empty ones, and reads a byte order mark and CRLF', () => {
    const { rows, problems } = parse(`\u{FEFF}${row}\r\n\r\n  \n${row}\r\n{"a"\n${row}`);
    expect(rows.map(({ line }) => line)).toEqual([1, 4, 6]);
    expect(problems).toEqual([{ line: 5, problem: 'The line is not JSON.' }]);
  });

  it('names the first line that is not UTF-8', () => {
    const bytes = Uint8Array.from([...bytesOf(`${row}\n"é"\n`), 0x22, 0xe9, 0x22, 0x0a, 0xff]);
    const problem = 'The file is not UTF-8 text. Save it as UTF-8.';
    expect(parseRows({ bytes, format: 'jsonl', method: 'sft' }).problems).toEqual([{ line: 3, problem }]);
  });

  it('says that a JSON array is not JSON Lines', () => {
    expect(parse(`\n[\n${row},\n${row}]`).problems).toEqual([
      {
        line: 1,
        problem: expect.stringContaining('The file is a JSON array. Write one object a line') as string,
      },
    ]);
  });

  it('finds no rows in an empty file', () => {
    expect(parse('')).toEqual({ rows: [], problems: [], problemCount: 0 });
    expect(parse('', 'sft', 'csv')).toEqual({ rows: [], problems: [], problemCount: 0 });
  });

  it('survives a deeply nested row', () => {
    const { problemCount } = parse(`{"messages": ${'['.repeat(200_000)}${']'.repeat(200_000)}}`);
    expect(problemCount).toBe(1);
  });

  it('keeps some problems and counts all, beside the rows that have none', () => {
    const { rows, problems, problemCount } = parse(`${row}\n${'{}\n'.repeat(MAX_ROW_PROBLEMS + 20)}${row}`);
    expect([rows.length, problems.length, problemCount]).toEqual([
      2,
      MAX_ROW_PROBLEMS,
      MAX_ROW_PROBLEMS + 20,
    ]);
  });

  it('bounds the bytes of a row, in UTF-8', () => {
    const around = '{"prompt": "a", "completion": ""}'.length;
    const of = (size: number) =>
      parse(`{"prompt": "a", "completion": "${'é'.repeat(Math.floor((size - around) / 2))}"}`);
    expect(of(MAX_TRAINING_ROW_BYTES)).toMatchObject({ problemCount: 0 });
    expect(of(MAX_TRAINING_ROW_BYTES + 2).problems).toEqual([
      { line: 1, problem: 'The row has more than 1048576 bytes.' },
    ]);
  });

  it('bounds the rows', () => {
    const { rows, problems } = parse(`${row}\n`.repeat(MAX_TRAINING_ROWS + 2));
    expect(rows).toHaveLength(MAX_TRAINING_ROWS);
    expect(problems).toEqual([{ line: 100_001, problem: 'The file has more than 100000 rows. Split it.' }]);
  });

  it('bounds the bytes of a file', () => {
    const bytes = new Uint8Array(MAX_ROWS_TEXT_BYTES + 1);
    expect(parseRows({ bytes, format: 'jsonl', method: 'sft' }).problems).toEqual([
      { line: 1, problem: 'The file has 67108865 bytes. The most is 67108864.' },
    ]);
  });
});

describe('parseRows of CSV', () => {
  it('reads each kind of columns, in any order', () => {
    expect(parse('completion,prompt\n b,a\n', 'sft', 'csv').rows).toEqual([
      { line: 2, conversations: [{ prompt: 'a', completion: ' b' }] },
    ]);
    expect(parse('user,system,expected\r\nhi,Be brief.,hello\r\nhi,,hello', 'sft', 'csv').rows).toEqual([
      { line: 2, conversations: [{ messages: [message('system', 'Be brief.'), question, answer] }] },
      { line: 3, conversations: [{ messages: [question, answer] }] },
    ]);
    expect(parse('prompt,chosen,rejected\na,b,c', 'dpo', 'csv').rows).toEqual([
      {
        line: 2,
        conversations: [
          { prompt: 'a', completion: 'b' },
          { prompt: 'a', completion: 'c' },
        ],
      },
    ]);
  });

  it('names the first line of a record', () => {
    const { rows, problems } = parse(
      '\u{FEFF}prompt,completion\n"a\n\nb","c ""d"", e"\n\na\na,\n"x"y,z\na,b\n"never closed,b\na,b',
      'sft',
      'csv',
    );
    expect(rows).toEqual([
      { line: 2, conversations: [{ prompt: 'a\n\nb', completion: 'c "d", e' }] },
      { line: 9, conversations: [{ prompt: 'a', completion: 'b' }] },
    ]);
    expect(problems).toEqual([
      { line: 6, problem: 'The record has 1 cells, but the header has 2 columns.' },
      {
        line: 7,
        problem:
          "The row needs 'messages', or 'prompt' and 'completion', or 'user' or 'prompt' and 'expected', or 'text' and 'label' or 'score'.",
      },
      { line: 8, problem: 'A closing quote must be followed by a comma or the end of the line.' },
      { line: 10, problem: 'A quoted cell is not closed.' },
    ]);
  });

  it.each<[TrainingMethod, string, string]>([
    ['sft', 'prompt;completion', "Unknown column 'prompt;completion'. The first line names the columns"],
    ['sft', 'id,prompt,completion', "Unknown column 'id'."],
    ['sft', 'prompt,prompt,completion', "Column 'prompt' is there twice."],
    ['sft', 'prompt,user', "Columns are missing. Name 'prompt' and 'completion'"],
    ['sft', 'expected', 'Columns are missing.'],
    ['dpo', 'prompt,chosen', "Columns are missing. Name 'prompt', 'chosen' and 'rejected'"],
    ['dpo', 'prompt,completion', "Unknown column 'completion'."],
    ['sft', '"prompt', 'A quoted cell is not closed.'],
  ])('refuses for %s the header %s', (method, header, problem) => {
    const { rows, problems, problemCount } = parse(`\n${header}\na,b\n`, method, 'csv');
    expect(rows).toEqual([]);
    expect(problemCount).toBe(1);
    expect(problems[0]).toMatchObject({ line: 2, problem: expect.stringContaining(problem) as string });
  });

  it('bounds the bytes of a record', () => {
    const { problems } = parse(`prompt,completion\na,${'b'.repeat(MAX_TRAINING_ROW_BYTES)}`, 'sft', 'csv');
    expect(problems).toEqual([{ line: 2, problem: 'The row has more than 1048576 bytes.' }]);
  });

  it('reads back whatever cells were written', () => {
    const cell = fc.array(fc.constantFrom('a', 'é', ' ', ',', '"', '\n', '\r\n', ';'), { maxLength: 8 });
    const record = fc.array(
      cell.map((parts) => parts.join('')),
      { minLength: 2, maxLength: 4 },
    );
    fc.assert(
      fc.property(fc.array(record), fc.constantFrom('\n', '\r\n'), fc.boolean(), (records, end, ends) => {
        const lines = records.map((cells) =>
          cells.map((one) => (/[",\r\n]/.test(one) ? `"${one.replaceAll('"', '""')}"` : one)).join(','),
        );
        const text = lines.join(end) + (ends && lines.length > 0 ? end : '');
        const read = [...csvRecords(text)];
        expect(read.map(({ cells }) => cells)).toEqual(records.map((value) => ({ ok: true, value })));
        let line = 1;
        for (const [at, { line: first }] of read.entries()) {
          expect(first).toBe(line);
          line += lines[at]!.split('\n').length;
        }
      }),
    );
  });
});

describe('parseRowsInTurns', () => {
  it('returns what parseRows does, and lets its caller in between', () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom('{"prompt":"a","completion":"b"}', '{}', 'x', ''), { maxLength: 30 }),
        fc.integer({ min: 1, max: 9 }),
        (lines, size) => {
          const file = { bytes: bytesOf(lines.join('\n')), format: 'jsonl', method: 'sft' } as const;
          const turns = parseRowsInTurns(file, size);
          const told: number[] = [];
          let turn = turns.next();
          for (; turn.done !== true; turn = turns.next()) told.push(turn.value);
          expect(turn.value).toEqual(parseRows(file));
          const rows = lines.filter((line) => line !== '').length;
          expect(told).toEqual(Array.from({ length: Math.floor(rows / size) }, (_, i) => (i + 1) * size));
        },
      ),
    );
  });
});

describe('csvAsJsonLines', () => {
  it('writes lines that are the same rows', () => {
    const cell = fc.string({
      unit: fc.constantFrom('a', ',', '"', '\n', 'é', ' '),
      minLength: 1,
      maxLength: 9,
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(cell, cell), { minLength: 1, maxLength: 9 }), (cells) => {
        const quoted = (text: string) => `"${text.replaceAll('"', '""')}"`;
        const csv = bytesOf(
          `prompt,completion\n${cells.map((row) => row.map(quoted).join(',')).join('\n')}\n`,
        );
        const lines = [...csvAsJsonLines(csv, 'sft')].join('');
        const conversations = ({ rows }: { rows: Row[] }) => rows.map((row) => row.conversations);
        expect(conversations(parse(lines))).toEqual(
          conversations(parseRows({ bytes: csv, format: 'csv', method: 'sft' })),
        );
        expect(lines.split('\n')).toHaveLength(cells.length + 1);
      }),
    );
  });
});
