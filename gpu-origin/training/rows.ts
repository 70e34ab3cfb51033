/**
 * A file of training rows, from its bytes to the tokens that a base is trained on. Files and their digests are the
 * caller's: this also runs in a browser's worker.
 */
import { z } from 'zod';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { ChatMessage } from '../../protocol/completion.ts';
import { checkQuestion, EvaluationRow } from '../../protocol/origin-wire.ts';
import { isMap, issuePath, short } from '../../protocol/parse-body.ts';
import type { TrainingMethod } from '../../protocol/training.ts';
import {
  ChatTemplateError,
  type ChatTemplate,
  type TemplateMessage,
  type TemplateOptions,
} from '../model/chat-template.ts';
import { finish, utf8Length, type Chunked, type Tokenizer } from '../model/tokenizer.ts';

/** Bytes of a file: it is held in memory, as text and as tokens, some ten times its size. */
export const MAX_ROWS_FILE_BYTES = 64 * 1024 * 1024;
/** Rows of a file: at one row a second, a day of training. */
export const MAX_TRAINING_ROWS = 100_000;
/** Bytes of a row: even of a byte-level tokenizer, 256 times the longest row in tokens. */
export const MAX_TRAINING_ROW_BYTES = 1024 * 1024;
/** Problems that are kept: more than anybody reads, and bounded when each line has one. */
export const MAX_ROW_PROBLEMS = 100;

export const ROW_FORMATS = ['jsonl', 'csv'] as const;
export type RowFormat = (typeof ROW_FORMATS)[number];

export interface RowMessage extends TemplateMessage {
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
}

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
 * or graft's evaluation rows. For `dpo`: OpenAI's preference format, or `prompt` or `user` with `chosen` and
 * `rejected`. Rows without a problem are returned also when others have one.
 */
export function parseRows({
  bytes,
  format,
  method,
}: {
  bytes: Uint8Array;
  format: RowFormat;
  method: TrainingMethod;
}): ParsedRows {
  const parsed: ParsedRows = { rows: [], problems: [], problemCount: 0 };
  let seen = 0;
  for (const { line, value } of valuesOf(bytes, format, method)) {
    seen += 1;
    const row =
      seen > MAX_TRAINING_ROWS
        ? err(`The file has more than ${MAX_TRAINING_ROWS} rows. Split it.`)
        : value.ok
          ? conversationsOf(value.value, method)
          : value;
    if (row.ok) parsed.rows.push({ line, conversations: row.value });
    else {
      parsed.problemCount += 1;
      if (parsed.problems.length < MAX_ROW_PROBLEMS) parsed.problems.push({ line, problem: row.error });
    }
    if (seen > MAX_TRAINING_ROWS) break;
  }
  return parsed;
}

/** A row's JSON value, or why there is none. */
interface Found {
  line: number;
  value: Result<unknown, string>;
}

function* valuesOf(bytes: Uint8Array, format: RowFormat, method: TrainingMethod): Generator<Found> {
  if (bytes.length > MAX_ROWS_FILE_BYTES) {
    const problem = `The file has ${bytes.length} bytes. The most is ${MAX_ROWS_FILE_BYTES}.`;
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
  3 * text.length > MAX_TRAINING_ROW_BYTES && utf8Length(text) > MAX_TRAINING_ROW_BYTES;

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
const ASKED = ['prompt', 'user', 'system'];
const ANSWERS = { sft: ['completion', 'expected'], dpo: ['chosen', 'rejected'] };

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
    Object.fromEntries(header.map((name, at) => [name, cells[at]]).filter(([, cell]) => cell !== '')),
  );
}

function headerProblem(header: readonly string[], method: TrainingMethod): string | null {
  const answers = ANSWERS[method];
  const known = [...ASKED, ...answers];
  const wanted =
    method === 'sft'
      ? "'prompt' and 'completion', or 'user', 'system' and 'expected'"
      : "'prompt', 'chosen' and 'rejected', or 'user', 'system', 'chosen' and 'rejected'";
  const unknown = header.find((name) => !known.includes(name));
  if (unknown !== undefined)
    return `Unknown column '${short(unknown)}'. The first line names the columns, separated by commas: ${wanted}.`;
  const twice = header.find((name, at) => header.indexOf(name) !== at);
  if (twice !== undefined) return `Column '${twice}' is there twice.`;
  const asks = header.includes('prompt') || header.includes('user');
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
  sft: "The row needs 'messages', or 'prompt' and 'completion', or 'user' or 'prompt' and 'expected'.",
  dpo: "The row needs 'input', 'preferred_output' and 'non_preferred_output', or 'user' or 'prompt' with 'chosen' and 'rejected'.",
};
const OTHER_METHOD: Record<TrainingMethod, string> = {
  sft: "The row has two answers, as the method 'dpo' needs them. The method 'sft' learns one.",
  dpo: "The row has one answer, as the method 'sft' needs it. The method 'dpo' compares two.",
};

function conversationsOf(value: unknown, method: TrainingMethod): Result<readonly Conversation[], string> {
  if (!isMap(value)) return err('The row is not a JSON object.');
  const row = withoutNulls(value) as Fields;
  const tools = toolsIn(row);
  if (tools !== null) return err(`Tools cannot be trained yet. Remove '${tools}', or the row.`);
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
    : ok(parsed.data);
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

export interface TrainingSequence {
  tokens: Int32Array;
  /** The token that should follow each position, or -1. */
  labels: Int32Array;
}

export interface TrainingRow {
  line: number;
  /** One; of a pair the chosen and the rejected one. */
  sequences: readonly TrainingSequence[];
  /** Of the row's text, 32 bits without a sign, for the split. */
  hash: number;
}

/**
 * `too_long`: more tokens than `maxLength`. `template`: the chat template refuses the messages. `no_template`: the
 * base takes raw texts only. `no_prompt`, `no_answer`: nothing to predict from, or nothing to learn.
 */
export type LeftOutReason = 'too_long' | 'template' | 'no_template' | 'no_prompt' | 'no_answer';

export interface LeftOut {
  line: number;
  reason: LeftOutReason;
  why: string;
}

interface RowEncoding {
  tokenizer: Tokenizer;
  /** null = the base has none. */
  template: ChatTemplate | null;
  /** Tokens of a row, its answer's end included; longer ones are left out, not cut. */
  maxLength: number;
}

type Excuse = Omit<LeftOut, 'line'>;

/**
 * Rows as tokens: those that the origin feeds for such a request, then those that it would generate. Only the
 * assistant's answers have labels, and the token that ends each. All at once; rows do not depend on each other, so a
 * caller with other work passes some at a time.
 *
 * A conversation of several answers is one sequence if each prompt begins with everything before it. Some templates
 * remove earlier thoughts or trim earlier answers: such a conversation becomes several rows of the same line and hash.
 */
export function encodeRows(
  rows: readonly Row[],
  encoding: RowEncoding,
): { rows: TrainingRow[]; leftOut: LeftOut[] } {
  const encoded: TrainingRow[] = [];
  const leftOut: LeftOut[] = [];
  const encode = conversationEncoder(encoding);
  for (const { line, conversations } of rows) {
    const hash = hashOf(conversations.map(textsOf).join('\n'));
    const all: TrainingSequence[][] = [];
    let excuse: Excuse | null = null;
    for (const conversation of conversations) {
      const sequences = encode(conversation);
      if (sequences.ok) all.push(sequences.value);
      else excuse ??= sequences.error;
    }
    if (excuse !== null) leftOut.push({ line, ...excuse });
    // The answers of a pair have one sequence each.
    else if (all.length > 1) encoded.push({ line, sequences: all.flat(), hash });
    else for (const sequence of all.flat()) encoded.push({ line, sequences: [sequence], hash });
  }
  return { rows: encoded, leftOut };
}

/** The same in turns of `size` rows. @param onTurn called after each, with the rows so far; encoding waits for it. */
export async function encodeInTurns(
  rows: readonly Row[],
  encoding: RowEncoding,
  size: number,
  onTurn: (done: number) => Promise<void>,
): Promise<ReturnType<typeof encodeRows>> {
  const all: ReturnType<typeof encodeRows> = { rows: [], leftOut: [] };
  for (let from = 0; from < rows.length; from += size) {
    const some = encodeRows(rows.slice(from, from + size), encoding);
    all.rows.push(...some.rows);
    all.leftOut.push(...some.leftOut);
    await onTurn(Math.min(from + size, rows.length));
  }
  return all;
}

/** Tokens of a sequence, and which of them are learned: from, to. */
interface Open {
  ids: number[];
  learned: [number, number][];
}

function conversationEncoder({ tokenizer, template, maxLength }: RowEncoding) {
  const tooLong: Excuse = { reason: 'too_long', why: `The row has more than ${maxLength} tokens.` };
  const noAnswer: Excuse = { reason: 'no_answer', why: 'The row has no answer to learn.' };
  const ofText = tokenizer.eosIds[0];
  const ofTurn = endOfTurn(tokenizer, template);

  const limited = (steps: Chunked<number[] | null>): number[] | null => {
    const ids = finish(steps);
    return ids === null || ids.length > maxLength ? null : ids;
  };
  const plain = (text: string, allowSpecial: boolean): number[] | null =>
    limited(tokenizer.encodeChunked(text, { allowSpecial, limit: maxLength }));

  /** Appends the answer and its end. @returns why the row is left out, or null. */
  function learn(open: Open, answer: string, end: number | undefined): Excuse | null {
    const ids = plain(answer, false);
    if (ids === null) return tooLong;
    if (ids.length === 0) return noAnswer;
    const from = open.ids.length;
    open.ids = [...open.ids, ...ids, ...(end === undefined ? [] : [end])];
    open.learned.push([from, open.ids.length]);
    return open.ids.length > maxLength ? tooLong : null;
  }

  function encodeText(prompt: string, completion: string): Result<TrainingSequence[], Excuse> {
    // A raw prompt is its own template, so its control strings become tokens, as in a request.
    const ids = plain(prompt, true);
    if (ids === null) return err(tooLong);
    const open: Open = { ids: [...tokenizer.prefixIds, ...ids], learned: [] };
    if (open.ids.length === 0) return err({ reason: 'no_prompt', why: 'The prompt is empty.' });
    const excuse = learn(open, completion, ofText);
    return excuse === null ? ok([sequenceOf(open)]) : err(excuse);
  }

  function encodeChat(
    messages: readonly RowMessage[],
    chatTemplate: ChatTemplate,
  ): Result<TrainingSequence[], Excuse> {
    const done: TrainingSequence[] = [];
    let open: Open = { ids: [], learned: [] };
    for (const [at, { trained, content }] of messages.entries()) {
      if (!trained) continue;
      const prompt = limited(chatTemplate.encodeChunked(messages.slice(0, at), maxLength));
      if (prompt === null) return err(tooLong);
      if (prompt.length === 0) return err({ reason: 'no_prompt', why: 'The prompt is empty.' });
      if (open.ids.some((id, place) => id !== prompt[place])) {
        done.push(sequenceOf(open));
        open = { ids: [], learned: [] };
      }
      open.ids = prompt;
      const excuse = learn(open, content, ofTurn);
      if (excuse !== null) return err(excuse);
    }
    return open.learned.length === 0 ? err(noAnswer) : ok([...done, sequenceOf(open)]);
  }

  return (conversation: Conversation): Result<TrainingSequence[], Excuse> => {
    if ('prompt' in conversation) return encodeText(conversation.prompt, conversation.completion);
    if (template === null) {
      const why = "This base has no chat template. Write the rows as 'prompt' and 'completion'.";
      return err({ reason: 'no_template', why });
    }
    try {
      return encodeChat(conversation.messages, template);
    } catch (error) {
      if (!(error instanceof ChatTemplateError)) throw error;
      const why = `The base's chat template refuses these messages: ${error.message}`;
      return err({ reason: 'template', why });
    }
  };
}

function sequenceOf({ ids, learned }: Open): TrainingSequence {
  const labels = new Int32Array(ids.length).fill(-1);
  for (const [from, to] of learned)
    for (let place = from; place < to; place += 1) labels[place - 1] = ids[place]!;
  return { tokens: Int32Array.from(ids), labels };
}

/**
 * The token that the template writes after an assistant's answer, if it ends a generation; otherwise the first that
 * does. Llama 3 lists `<|end_of_text|>` first, but its turns end with `<|eot_id|>`.
 */
function endOfTurn(tokenizer: Tokenizer, template: ChatTemplate | null): number | undefined {
  const first = tokenizer.eosIds[0];
  if (template === null) return first;
  const turns = [
    { role: 'user', content: 'a' },
    { role: 'assistant', content: 'b' },
  ];
  const encode = (options: TemplateOptions): number[] =>
    finish(template.encodeChunked(turns, Infinity, options)) ?? [];
  try {
    const answered = encode({ continuesLast: true }).length;
    const after = encode({ opensTurn: false }).slice(answered);
    return after.find((id) => tokenizer.eosIds.includes(id)) ?? first;
  } catch (error) {
    if (error instanceof ChatTemplateError) return first;
    throw error;
  }
}

/** Everything that makes one conversation another. */
const textsOf = (conversation: Conversation): string =>
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

/** FNV-1a over UTF-16 units, then MurmurHash3's finalizer, so that the upper bits are even too. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** Rows from which on at least one is held out: fewer are needed for training. */
export const MIN_SPLIT_ROWS = 10;
/** Rows held out at most: they are run several times, and more hardly make the loss more certain. */
export const MAX_HELD_OUT_ROWS = 1_000;

/**
 * Divides rows by their own hash, so that a row is on the same side in any order and beside any others, and its copies
 * are too. Two exceptions look at all rows: at least one is held out of {@link MIN_SPLIT_ROWS}, and at most
 * {@link MAX_HELD_OUT_ROWS} are, those of the smallest hashes. One text at least remains to be trained on.
 * @param share of rows that are held out, from 0 to 1.
 */
export function splitRows(
  rows: readonly TrainingRow[],
  share: number,
): { trained: TrainingRow[]; heldOut: TrainingRow[] } {
  const copies = new Map<number, number>();
  for (const { hash } of rows) copies.set(hash, (copies.get(hash) ?? 0) + 1);
  const held = new Set<number>();
  let count = 0;
  if (share > 0)
    for (const [hash, size] of [...copies].sort(([a], [b]) => a - b).slice(0, -1)) {
      const wanted = hash < share * 2 ** 32 || (count === 0 && rows.length >= MIN_SPLIT_ROWS);
      if (!wanted) break;
      if (count + size > MAX_HELD_OUT_ROWS) continue;
      held.add(hash);
      count += size;
    }
  return {
    trained: rows.filter(({ hash }) => !held.has(hash)),
    heldOut: rows.filter(({ hash }) => held.has(hash)),
  };
}
