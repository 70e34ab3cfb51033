/**
 * Rows as the tokens that a base is trained on, and which of them are held out. This also runs in a browser's worker.
 */
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { textsOf, type Conversation, type Row, type RowMessage } from '../../protocol/training-rows.ts';
import { ChatTemplateError, type ChatTemplate, type TemplateOptions } from '../model/chat-template.ts';
import { finish, type Chunked, type Tokenizer } from '../model/tokenizer.ts';

export interface TrainingSequence {
  tokens: Int32Array;
  /** The token that should follow each position, or -1. */
  labels: Int32Array;
  /** The number that the head should give where there is a label; absent = labels are tokens or classes. */
  target?: number;
  /** First token on which each activated delta acts (`Batch.begins`); absent = there are none. */
  begins?: readonly number[];
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
 * base takes raw texts only. `no_prompt`, `no_answer`: nothing to predict from, or nothing to learn. `not_activated`: the
 * prompt lacks the tokens from which on the adapter acts.
 */
export type LeftOutReason =
  'too_long' | 'template' | 'no_template' | 'no_prompt' | 'no_answer' | 'not_activated';

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
  /** Of each prompt, where the activated deltas begin to act; null = the trained one does not. Absent = there are none. */
  begins?: ((prompt: readonly number[]) => readonly number[] | null) | undefined;
  /** Labels that rows have, by class; absent = rows have answers. */
  classes?: readonly string[] | undefined;
}

type Excuse = Omit<LeftOut, 'line'>;

/**
 * Rows as tokens: those that the origin feeds for such a request, then those that it would generate. Only the
 * assistant's answers have labels, and the token that ends each. All at once; rows do not depend on each other, so a
 * caller with other work passes some at a time.
 *
 * A conversation of several answers is one sequence if each prompt begins with everything before it. Some templates
 * remove earlier thoughts or trim earlier answers: such a conversation becomes several rows of the same line and hash.
 * So does each where deltas are activated: they act from another place on in each prompt.
 *
 * A row with a label or score is what `/v1/classify` reads, and its last token has the class or number.
 */
export function encodeRows(
  rows: readonly Row[],
  encoding: RowEncoding,
): { rows: TrainingRow[]; leftOut: LeftOut[] } {
  const encoded: TrainingRow[] = [];
  const leftOut: LeftOut[] = [];
  const encode = conversationEncoder(encoding);
  for (const { line, conversations, label, score } of rows) {
    const hash = hashOf(conversations.map(textsOf).join('\n'));
    const all: TrainingSequence[][] = [];
    let excuse: Excuse | null = null;
    for (const conversation of conversations) {
      const sequences = encode(conversation, score ?? label);
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
  begins?: readonly number[];
}

function conversationEncoder({ tokenizer, template, maxLength, begins, classes }: RowEncoding) {
  const tooLong: Excuse = { reason: 'too_long', why: `The row has more than ${maxLength} tokens.` };
  const noAnswer: Excuse = { reason: 'no_answer', why: 'The row has no answer to learn.' };
  const notActivated: Excuse = {
    reason: 'not_activated',
    why: 'The prompt does not contain the tokens from which on the adapter acts (--activated).',
  };
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
    if (begins !== undefined) {
      const found = begins(open.ids);
      if (found === null) return notActivated;
      open.begins = found;
    }
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
      const isOther = begins !== undefined && open.learned.length > 0;
      if (isOther || open.ids.some((id, place) => id !== prompt[place])) {
        done.push(sequenceOf(open));
        open = { ids: [], learned: [] };
      }
      open.ids = prompt;
      const excuse = learn(open, content, ofTurn);
      if (excuse !== null) return err(excuse);
    }
    return open.learned.length === 0 ? err(noAnswer) : ok([...done, sequenceOf(open)]);
  }

  /** The prompt of a row with a label or score. */
  function classified(
    ids: readonly number[] | null,
    wanted: string | number,
  ): Result<TrainingSequence[], Excuse> {
    if (ids === null || ids.length > maxLength) return err(tooLong);
    if (ids.length === 0) return err({ reason: 'no_prompt', why: 'The text is empty.' });
    const found = begins?.(ids);
    if (found === null) return err(notActivated);
    const labels = new Int32Array(ids.length).fill(-1);
    labels[ids.length - 1] = typeof wanted === 'number' ? 0 : (classes?.indexOf(wanted) ?? -1);
    return ok([
      {
        tokens: Int32Array.from(ids),
        labels,
        ...(typeof wanted === 'number' ? { target: wanted } : {}),
        ...(found === undefined ? {} : { begins: found }),
      },
    ]);
  }

  return (conversation: Conversation, wanted?: string | number): Result<TrainingSequence[], Excuse> => {
    if (wanted !== undefined && 'prompt' in conversation) {
      const ids = plain(conversation.prompt, false);
      return classified(ids === null ? null : [...tokenizer.prefixIds, ...ids], wanted);
    }
    if ('prompt' in conversation) return encodeText(conversation.prompt, conversation.completion);
    if (template === null) {
      const why = "This base has no chat template. Write the rows as 'prompt' and 'completion'.";
      return err({ reason: 'no_template', why });
    }
    try {
      if (wanted !== undefined)
        return classified(
          limited(template.encodeChunked(conversation.messages, maxLength, { opensTurn: false })),
          wanted,
        );
      return encodeChat(conversation.messages, template);
    } catch (error) {
      if (!(error instanceof ChatTemplateError)) throw error;
      const why = `The base's chat template refuses these messages: ${error.message}`;
      return err({ reason: 'template', why });
    }
  };
}

function sequenceOf({ ids, learned, begins }: Open): TrainingSequence {
  const labels = new Int32Array(ids.length).fill(-1);
  for (const [from, to] of learned)
    for (let place = from; place < to; place += 1) labels[place - 1] = ids[place]!;
  return { tokens: Int32Array.from(ids), labels, ...(begins === undefined ? {} : { begins }) };
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
