/**
 * A file of training rows, from its bytes to conversations, and what is wrong with which line: the same for `graft train`,
 * jobs, pages that train, and the console before it sends one. No I/O.
 */
import { z } from 'zod';
import { err, ok, type Result } from './api-error.ts';
import { ClassLabel } from './classes.ts';
import { ChatMessage } from './completion.ts';
import { MAX_CLASSES, MAX_LABEL_CHARACTERS } from './limits.ts';
import { checkQuestion, EvaluationRow } from './origin-wire.ts';
import { isMap, issuePath, short } from './parse-body.ts';
import type { TrainingMethod } from './training.ts';

/** Bytes of a file: it is held in memory, as text and as tokens, some ten times its size. */
export const MAX_ROWS_TEXT_BYTES = 64 * 1024 * 1024;
/** Rows of a file: at one row a second, a day of training. */
export const MAX_TRAINING_ROWS = 100_000;
/** Bytes of a row: even of a byte-level tokenizer, 256 times the longest row in tokens. */
export const MAX_TRAINING_ROW_BYTES = 1024 * 1024;
/** Problems that are kept: more than anybody reads, and bounded when each line has one. */
export const MAX_ROW_PROBLEMS = 100;

export const ROW_FORMATS = ['jsonl', 'csv'] as const;
export type RowFormat = (typeof ROW_FORMATS)[number];

export interface RowMessage {
  role: string;
  content: string;
  /** The speaker's. */
  name?: string | undefined;
  /** Whether the message is learned; only an assistant's is. */
  trained: boolean;
}

/** A raw text and what follows it, or messages of which the last is the assistant's. */
export type Conversation = { prompt: string; completion: string } | { messages: readonly RowMessage[] };

export interface Row {
  /** Where it begins in the file, from 1. */
  line: number;
  /** One; of a pair the chosen and the rejected one, with the same prompt. */
  conversations: readonly Conversation[];
  /** Its class; the conversation then has no answer, and a raw text an empty one. Absent = an answer is learned. */
  label?: string;
  /** In the place of a class, the number that a head of one output should give. */
  score?: number;
}

type RowContent = Omit<Row, 'line'>;

export interface RowProblem {
  /** From 1; of a CSV record its first. */
  line: number;
  problem: string;
}

export interface ParsedRows {
  rows: Row[];
  /** The first {@link MAX_ROW_PROBLEMS}. */
  problems: RowProblem[];
  /** Of all problems. */
  problemCount: number;
}

/**
 * Reads a file of rows; each row's fields decide its shape. For `sft`: OpenAI's chat format, `prompt` and `completion`,
 * or graft's evaluation rows; or a text or conversation with its `label` or `score`. For `dpo`: OpenAI's preference format, or `prompt` or `user` with `chosen` and
 * `rejected`. Rows without a problem are returned also when others have one.
 */
export function parseRows(file: RowsText): ParsedRows {
  const turns = parseRowsInTurns(file, Infinity);
  for (;;) {
    const turn = turns.next();
    if (turn.done === true) return turn.value;
  }
}

export interface RowsText {
  bytes: Uint8Array;
  format: RowFormat;
  method: TrainingMethod;
}

/** The same, for a caller with other work: yields the number of rows so far after each `size` of them. */
export function* parseRowsInTurns(
  { bytes, format, method }: RowsText,
  size: number,
): Generator<number, ParsedRows> {
  const parsed: ParsedRows = { rows: [], problems: [], problemCount: 0 };
  let seen = 0;
  for (const { line, value } of valuesOf(bytes, format, method)) {
    seen += 1;
    const row =
      seen > MAX_TRAINING_ROWS
        ? err(`The file has more than ${MAX_TRAINING_ROWS} rows. Split it.`)
        : value.ok
          ? contentOf(value.value, method)
          : value;
    if (row.ok) parsed.rows.push({ line, ...row.value });
    else {
      parsed.problemCount += 1;
      if (parsed.problems.length < MAX_ROW_PROBLEMS) parsed.problems.push({ line, problem: row.error });
    }
    if (seen > MAX_TRAINING_ROWS) break;
    if (seen % size === 0) yield seen;
  }
  return parsed;
}

/**
 * Rows of CSV as JSON Lines, one for each record that is one.
 * @returns lines with their ends.
 */
export function* csvAsJsonLines(bytes: Uint8Array, method: TrainingMethod): Generator<string> {
  for (const { value } of valuesOf(bytes, 'csv', method))
    if (value.ok) yield `${JSON.stringify(value.value)}\n`;
}

/** A row's JSON value, or why there is none. */
interface Found {
  line: number;
  value: Result<unknown, string>;
}

function* valuesOf(bytes: Uint8Array, format: RowFormat, method: TrainingMethod): Generator<Found> {
  if (bytes.length > MAX_ROWS_TEXT_BYTES) {
    const problem = `The file has ${bytes.length} bytes. The most is ${MAX_ROWS_TEXT_BYTES}.`;
    yield { line: 1, value: err(problem) };
    return;
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    yield { line: firstBadLine(bytes), value: err('The file is not UTF-8 text. Save it as UTF-8.') };
    return;
  }
  yield* format === 'csv' ? csvValues(text, method) : jsonValues(text);
}

const NEWLINE = 0x0a;

/** No UTF-8 sequence contains a line's end, so each line can be decoded alone. */
function firstBadLine(bytes: Uint8Array): number {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let line = 1;
  for (let start = 0; start < bytes.length; line += 1) {
    const newline = bytes.indexOf(NEWLINE, start);
    const end = newline === -1 ? bytes.length : newline;
    try {
      decoder.decode(bytes.subarray(start, end));
    } catch {
      break;
    }
    start = end + 1;
  }
  return line;
}

const ROW_TOO_LONG = `The row has more than ${MAX_TRAINING_ROW_BYTES} bytes.`;

const isTooLong = (text: string): boolean =>
  3 * text.length > MAX_TRAINING_ROW_BYTES && new TextEncoder().encode(text).length > MAX_TRAINING_ROW_BYTES;

function* jsonValues(text: string): Generator<Found> {
  if (text.trimStart().startsWith('[')) {
    const problem = 'The file is a JSON array. Write one object a line, without brackets and commas around.';
    yield { line: 1, value: err(problem) };
    return;
  }
  let line = 0;
  for (let start = 0; start < text.length;) {
    const newline = text.indexOf('\n', start);
    const end = newline === -1 ? text.length : newline;
    const row = text.slice(start, end);
    start = end + 1;
    line += 1;
    if (row.trim() !== '') yield { line, value: isTooLong(row) ? err(ROW_TOO_LONG) : parseJson(row) };
  }
}

function parseJson(text: string): Result<unknown, string> {
  try {
    return ok(JSON.parse(text));
  } catch {
    return err('The line is not JSON.');
  }
}

interface CsvRecord {
  /** Its first. */
  line: number;
  cells: Result<string[], string>;
}

/** RFC 4180: cells in quotes may have commas, line ends and doubled quotes. Lines end with CRLF or LF. */
export function* csvRecords(text: string): Generator<CsvRecord> {
  const unquoted = /[^,\n]*/y;
  let line = 1;
  for (let at = 0; at < text.length;) {
    const first = line;
    const start = at;
    const cells: string[] = [];
    let quoted = false;
    for (;;) {
      if (text[at] === '"') {
        quoted = true;
        let close = text.indexOf('"', at + 1);
        while (close !== -1 && text[close + 1] === '"') close = text.indexOf('"', close + 2);
        if (close === -1) {
          yield { line: first, cells: err('A quoted cell is not closed.') };
          return;
        }
        const cell = text.slice(at + 1, close);
        cells.push(cell.replaceAll('""', '"'));
        line += cell.split('\n').length - 1;
        at = close + 1;
      } else {
        unquoted.lastIndex = at;
        const cell = unquoted.exec(text)![0];
        at += cell.length;
        cells.push(text[at] !== ',' && cell.endsWith('\r') ? cell.slice(0, -1) : cell);
      }
      if (text[at] !== ',') break;
      at += 1;
    }
    const newline = text.indexOf('\n', at);
    const end = newline === -1 ? text.length : newline;
    const rest = text.slice(at, end);
    at = end + 1;
    line += 1;
    if (!quoted && cells.length === 1 && cells[0]!.trim() === '') continue;
    if (rest !== '' && rest !== '\r')
      yield {
        line: first,
        cells: err('A closing quote must be followed by a comma or the end of the line.'),
      };
    else if (isTooLong(text.slice(start, end))) yield { line: first, cells: err(ROW_TOO_LONG) };
    else yield { line: first, cells: ok(cells) };
  }
}

/** Columns of CSV: what the answer follows, and the answer. */
const ASKED = ['prompt', 'text', 'query', 'document', 'user', 'system'];
const ANSWERS = { sft: ['completion', 'expected', 'label', 'score'], dpo: ['chosen', 'rejected'] };

function* csvValues(text: string, method: TrainingMethod): Generator<Found> {
  let header: string[] | null = null;
  for (const { line, cells } of csvRecords(text)) {
    if (!cells.ok) yield { line, value: cells };
    else if (header !== null) yield { line, value: csvValue(header, cells.value) };
    else {
      header = cells.value.map((name) => name.trim());
      const problem = headerProblem(header, method);
      if (problem === null) continue;
      yield { line, value: err(problem) };
      return;
    }
    // Without a header no record has a meaning.
    if (header === null) return;
  }
}

/** An empty cell is a field that is not given. */
function csvValue(header: readonly string[], cells: readonly string[]): Result<unknown, string> {
  if (cells.length !== header.length)
    return err(`The record has ${cells.length} cells, but the header has ${header.length} columns.`);
  return ok(
    Object.fromEntries(
      header
        .map((name, at) => [name, cells[at]] as const)
        .filter(([, cell]) => cell !== '')
        // Other fields are texts, also where they look like a number.
        .map(([name, cell = '']) => [name, name === 'score' && cell.trim() !== '' ? Number(cell) : cell]),
    ),
  );
}

function headerProblem(header: readonly string[], method: TrainingMethod): string | null {
  const answers = ANSWERS[method];
  const known = [...ASKED, ...answers];
  const wanted =
    method === 'sft'
      ? "'prompt' and 'completion', or 'user', 'system' and 'expected', or 'text' and 'label' or 'score'"
      : "'prompt', 'chosen' and 'rejected', or 'user', 'system', 'chosen' and 'rejected'";
  const unknown = header.find((name) => !known.includes(name));
  if (unknown !== undefined)
    return `Unknown column '${short(unknown)}'. The first line names the columns, separated by commas: ${wanted}.`;
  const twice = header.find((name, at) => header.indexOf(name) !== at);
  if (twice !== undefined) return `Column '${twice}' is there twice.`;
  const asks = ['prompt', 'text', 'query', 'user'].some((name) => header.includes(name));
  const has = (name: string): boolean => header.includes(name);
  const answered = method === 'sft' ? answers.some(has) : answers.every(has);
  return asks && answered ? null : `Columns are missing. Name ${wanted}.`;
}

const answerText = z.string().min(1, 'must not be empty');

const role = z.enum(
  ['system', 'developer', 'user', 'assistant'],
  "must be 'system', 'developer', 'user' or 'assistant'",
);

/** `null` means "not given", as in OpenAI's own files. */
const withoutNulls = (value: unknown): unknown =>
  isMap(value) ? Object.fromEntries(Object.entries(value).filter(([, field]) => field !== null)) : value;

/** Contents are those that an origin accepts. */
const message = { role, content: ChatMessage.shape.content, name: z.string().optional() };

const ContextMessage = z.preprocess(withoutNulls, z.strictObject(message));

const TrainedMessage = z.preprocess(
  withoutNulls,
  z
    .strictObject({
      ...message,
      weight: z.union([z.literal(0), z.literal(1)], 'must be 0 or 1').optional(),
    })
    .superRefine(({ role: of, content, weight }, context) => {
      if (of !== 'assistant' && weight !== undefined)
        context.addIssue({
          code: 'custom',
          path: ['weight'],
          message: "only an assistant's message has a weight",
        });
      if (of === 'assistant' && weight !== 0 && textOf(content) === '')
        context.addIssue({ code: 'custom', path: ['content'], message: 'must not be empty' });
    }),
);

const AnswerMessage = z.preprocess(
  withoutNulls,
  z.strictObject({
    role: z.literal('assistant', "must be 'assistant'"),
    content: ChatMessage.shape.content.refine((content) => textOf(content) !== '', 'must not be empty'),
    name: z.string().optional(),
  }),
);
const output = z.array(AnswerMessage).length(1, "must be one assistant's message");

type Content = z.infer<typeof ChatMessage>['content'];

const textOf = (content: Content): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('');

/** As an origin gives messages to the template. */
const rowMessage = (
  { role: of, content, name }: { role: z.infer<typeof role>; content: Content; name?: string | undefined },
  trained: boolean,
): RowMessage => ({
  role: of === 'developer' ? 'system' : of,
  content: textOf(content),
  ...(name === undefined ? {} : { name }),
  trained,
});

const Chat = z
  .strictObject({ messages: z.array(TrainedMessage).min(1, 'must not be empty') })
  .refine(({ messages }) => messages.at(-1)?.role === 'assistant', {
    path: ['messages'],
    message: "the last message must be the assistant's",
  })
  .transform(({ messages }): Conversation[] => [
    {
      messages: messages.map((one) => rowMessage(one, one.role === 'assistant' && one.weight !== 0)),
    },
  ]);

const Completion = z
  .strictObject({ prompt: z.string(), completion: answerText })
  .transform((row): Conversation[] => [row]);

/** What a short row asks, as an evaluation asks it. */
const asked = (
  { prompt, user, system }: Pick<EvaluationRow, 'prompt' | 'user' | 'system'>,
  answer: string,
): Conversation =>
  prompt === undefined
    ? {
        messages: [
          ...(system === undefined ? [] : [rowMessage({ role: 'system', content: system }, false)]),
          rowMessage({ role: 'user', content: user ?? '' }, false),
          rowMessage({ role: 'assistant', content: answer }, true),
        ],
      }
    : { prompt, completion: answer };

const Expected = EvaluationRow.transform((row): Conversation[] => [asked(row, row.expected)]);

/** A head's weights are float32, and a loss squares what is between a score and theirs. */
const MAX_SCORE = 1e6;

const Labelled = z
  .strictObject({
    text: answerText.optional(),
    prompt: answerText.optional(),
    messages: z.array(ContextMessage).min(1, 'must not be empty').optional(),
    /** A pair, as `/v1/rerank` joins it. */
    query: z.string().optional(),
    document: answerText.optional(),
    label: z
      .union(
        [ClassLabel, z.int().transform(String), z.boolean().transform(String)],
        `must be a text of 1 to ${MAX_LABEL_CHARACTERS} characters, a whole number, true or false`,
      )
      .optional(),
    score: z
      .number('must be a number')
      .refine((score) => Math.abs(score) <= MAX_SCORE, `must be from -${MAX_SCORE} to ${MAX_SCORE}`)
      .optional(),
  })
  .refine(
    ({ query, document }) => (query === undefined) === (document === undefined),
    "a pair needs 'query' and 'document'",
  )
  .refine(
    (row) =>
      [row.text, row.prompt, row.messages, row.document].filter((one) => one !== undefined).length === 1,
    "a row with a label or score needs either 'text', 'prompt', 'messages', or 'query' and 'document'",
  )
  .refine(
    ({ label, score }) => (label === undefined) !== (score === undefined),
    "a row has a 'label' or a 'score', not both",
  )
  .transform(({ text, prompt, messages, query = '', document = '', label, score }): RowContent => ({
    conversations: [
      messages === undefined
        ? { prompt: text ?? prompt ?? query + document, completion: '' }
        : { messages: messages.map((one) => rowMessage(one, false)) },
    ],
    ...(label === undefined ? {} : { label }),
    ...(score === undefined ? {} : { score }),
  }));

const Pair = z
  .strictObject({
    prompt: z.string().optional(),
    user: z.string().optional(),
    system: z.string().optional(),
    chosen: answerText,
    rejected: answerText,
  })
  .superRefine(checkQuestion)
  .transform((row): Conversation[] => [asked(row, row.chosen), asked(row, row.rejected)]);

const Preference = z
  .strictObject({
    input: z.preprocess(
      withoutNulls,
      z.strictObject({ messages: z.array(ContextMessage).min(1, 'must not be empty') }),
    ),
    preferred_output: output,
    non_preferred_output: output,
  })
  .transform(({ input, preferred_output: [chosen], non_preferred_output: [rejected] }): Conversation[] =>
    [chosen!, rejected!].map((answer) => ({
      messages: [...input.messages.map((one) => rowMessage(one, false)), rowMessage(answer, true)],
    })),
  );

type RowKind = 'label' | 'score' | 'answer';

/** What a row is trained on. */
export const kindOfRow = ({ label, score }: Pick<Row, 'label' | 'score'>): RowKind =>
  label !== undefined ? 'label' : score !== undefined ? 'score' : 'answer';

/** The classification head that rows train: a class for each label, sorted, or null for one output. */
export interface RowsHead {
  labels: string[] | null;
}

/** @returns null if the rows have answers; an error unless all are of one kind, and labels 2 to 1,000. */
export function headOfRows(rows: readonly Row[]): Result<RowsHead | null, RowProblem> {
  const [first] = rows;
  if (first === undefined) return ok(null);
  const kind = kindOfRow(first);
  const odd = rows.find((row) => kindOfRow(row) !== kind);
  if (odd !== undefined) return err({ line: odd.line, problem: otherKind(kind, kindOfRow(odd)) });
  if (kind !== 'label') return ok(kind === 'score' ? { labels: null } : null);
  const labels = [...new Set(rows.flatMap(({ label }) => label ?? []))].sort();
  if (labels.length >= 2 && labels.length <= MAX_CLASSES) return ok({ labels });
  const count = labels.length === 1 ? 'one label' : `${labels.length} labels`;
  const problem = `The rows have ${count}. A classification head is trained on 2 to ${MAX_CLASSES}.`;
  return err({ line: first.line, problem });
}

/** Why a row cannot be among those of a kind. */
export const otherKind = (kind: RowKind, own: RowKind): string =>
  `The row has ${kind === 'answer' ? `a ${own}` : `no ${kind}`}, unlike others. Train an adapter on one kind of rows.`;

type Fields = Record<string, unknown>;

/** The first shape of which a row has a field. */
const SHAPES: Record<
  TrainingMethod,
  readonly [fields: readonly string[], schema: z.ZodType<Conversation[]>][]
> = {
  sft: [
    [['messages'], Chat],
    [['completion'], Completion],
    [['expected'], Expected],
  ],
  dpo: [
    [['input', 'preferred_output', 'non_preferred_output'], Preference],
    [['chosen', 'rejected'], Pair],
  ],
};

const UNKNOWN_SHAPE: Record<TrainingMethod, string> = {
  sft: "The row needs 'messages', or 'prompt' and 'completion', or 'user' or 'prompt' and 'expected', or 'text' and 'label' or 'score'.",
  dpo: "The row needs 'input', 'preferred_output' and 'non_preferred_output', or 'user' or 'prompt' with 'chosen' and 'rejected'.",
};
const OTHER_METHOD: Record<TrainingMethod, string> = {
  sft: "The row has two answers, as the method 'dpo' needs them. The method 'sft' learns one.",
  dpo: "The row has one answer, as the method 'sft' needs it. The method 'dpo' compares two.",
};

function contentOf(value: unknown, method: TrainingMethod): Result<RowContent, string> {
  if (!isMap(value)) return err('The row is not a JSON object.');
  const row = withoutNulls(value) as Fields;
  const tools = toolsIn(row);
  if (tools !== null) return err(`Tools cannot be trained yet. Remove '${tools}', or the row.`);
  const own = ['label', 'score'].find((field) => field in row);
  if (own !== undefined) {
    if (method === 'dpo') return err(`The row has a ${own}, which only the method 'sft' learns.`);
    const labelled = Labelled.safeParse(row);
    return labelled.success ? ok(labelled.data) : err(problemOf(labelled.error));
  }
  const schema = schemaOf(row, method);
  if (schema === undefined) {
    const other = schemaOf(row, method === 'sft' ? 'dpo' : 'sft');
    return err(other === undefined ? UNKNOWN_SHAPE[method] : OTHER_METHOD[method]);
  }
  const parsed = schema.safeParse(row);
  if (!parsed.success) return err(problemOf(parsed.error));
  const [chosen, rejected] = parsed.data;
  return rejected !== undefined && textsOf(chosen!) === textsOf(rejected)
    ? err('The chosen and the rejected answer are the same.')
    : ok({ conversations: parsed.data });
}

const schemaOf = (row: Fields, method: TrainingMethod): z.ZodType<Conversation[]> | undefined =>
  SHAPES[method].find(([fields]) => fields.some((field) => field in row))?.[1];

function problemOf(error: z.ZodError): string {
  const issue = error.issues[0]!;
  if (issue.code === 'unrecognized_keys')
    return `Unknown field '${issuePath([...issue.path, issue.keys[0]!])}'.`;
  const where = issuePath(issue.path);
  if (where === '') return `${issue.message.charAt(0).toUpperCase()}${issue.message.slice(1)}.`;
  return `Invalid value for '${where}': ${issue.message}.`;
}

const TOOL_FIELDS = ['tools', 'functions', 'tool_choice', 'function_call', 'parallel_tool_calls'];
const TOOL_MESSAGE_FIELDS = ['tool_calls', 'function_call', 'tool_call_id'];

/** @returns the path of the first thing that has to do with tools, or null. */
function toolsIn(row: Fields): string | null {
  const input = isMap(row['input']) ? row['input'] : {};
  const lists: [readonly PropertyKey[], unknown][] = [
    [['messages'], row['messages']],
    [['input', 'messages'], input['messages']],
    [['preferred_output'], row['preferred_output']],
    [['non_preferred_output'], row['non_preferred_output']],
  ];
  const given = (fields: Fields, names: readonly string[]): string | undefined =>
    names.find((name) => fields[name] != null);
  const own = given(row, TOOL_FIELDS);
  if (own !== undefined) return own;
  const ofInput = given(input, TOOL_FIELDS);
  if (ofInput !== undefined) return issuePath(['input', ofInput]);
  for (const [path, list] of lists)
    for (const [at, one] of (Array.isArray(list) ? (list as unknown[]) : []).entries()) {
      if (!isMap(one)) continue;
      const field = given(one, TOOL_MESSAGE_FIELDS);
      if (field !== undefined) return issuePath([...path, at, field]);
      if (one['role'] === 'tool' || one['role'] === 'function') return issuePath([...path, at]);
    }
  return null;
}

/** Everything that makes one conversation another. */
export const textsOf = (conversation: Conversation): string =>
  JSON.stringify(
    'prompt' in conversation
      ? [conversation.prompt, conversation.completion]
      : conversation.messages.map(({ role: of, content, name, trained }) => [
          of,
          content,
          name ?? null,
          trained,
        ]),
  );
