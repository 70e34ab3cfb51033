import { tokenBytesOf } from './tokenizer-bytes.ts';
import { type AddedToken, type TokenizerDefinition } from './tokenizer-definition.ts';
import { mostShortening, type Place, plainEncoder } from './tokenizer-plain.ts';
import { segments } from './tokenizer-segments.ts';
import { Splitter } from './tokenizer-splitter.ts';
import { finish, STEP_CHARACTERS, type Steps } from './tokenizer-steps.ts';
import { utf8Length } from './utf8-length.ts';

export interface Tokenizer {
  /**
   * All at once: for texts that are known to be short.
   * @param allowSpecial true: control strings in the text become their ids; false: they are text like any other.
   */
  encode(text: string, options: { allowSpecial: boolean }): number[];
  /** The same in steps, with `limit` as in {@link Tokenizer.encodePieces}. */
  encodeInSteps(text: string, options: { allowSpecial: boolean; limit: number }): Steps<number[] | null>;
  /**
   * Encodes the sections of one text, each by itself; a number is an id and goes through.
   * @param limit encoding stops soon after so many tokens, so that more than `limit` come back.
   * @returns null for texts of so many bytes that they have more tokens than `limit`: nothing was encoded.
   */
  encodePieces(pieces: readonly (string | number)[], limit: number): Steps<number[] | null>;
  /** Bytes that a token adds to the output, or null when there is no such token. The caller must not change them. */
  tokenBytes(id: number): Uint8Array<ArrayBuffer> | null;
  /** Tokens that are not shown: they steer the model and are not part of its text. */
  isSpecial(id: number): boolean;
  /** Text of each token that no content may yield to its id: those that are not shown, and the template's markers. */
  readonly controlTokens: ReadonlyMap<string, number>;
  readonly bosId: number | null;
  /** Tokens that end a generation. */
  readonly eosIds: readonly number[];
  /** Ids that go before a raw text prompt. */
  readonly prefixIds: readonly number[];
  /** Jinja source of the base's chat template. */
  readonly chatTemplate: string | null;
  /** Ids are below this. */
  readonly size: number;
}

/** Not shown in the output. Some bases list control tokens such as `<|fim_prefix|>` as ordinary: their form tells. */
const isHidden = (token: AddedToken): boolean =>
  token.special === true || /^<\|[^|]+\|>$/.test(token.content);

/**
 * Not for contents to yield: also what the template writes between them, as DeepSeek's `<｜User｜>` and Gemma's
 * `<start_of_turn>`, which may be ordinary added tokens. Blanks and single characters are needed to write any text.
 */
const isControl = (token: AddedToken, template: string | null): boolean =>
  isHidden(token) ||
  (template?.includes(token.content) === true &&
    token.content.trim() !== '' &&
    token.content.length > String.fromCodePoint(token.content.codePointAt(0)!).length);

/** What `lstrip` and `rstrip` of an added token take: Unicode's white space, which has no U+FEFF. Linear in the text. */
const BLANKS_FIRST = /^\p{White_Space}+/u;
const BLANKS_LAST = /(?<!\p{White_Space})\p{White_Space}+$/u;

/** What encoding a segment costs beside its characters, in characters. */
const SEGMENT_WORK = 16;

/** @throws TokenizerError */
export function createTokenizer(definition: TokenizerDefinition): Tokenizer {
  const { json, chatTemplate } = definition;
  const control = new Map(
    json.added_tokens
      .filter((token) => isControl(token, chatTemplate))
      .map((token) => [token.content, token]),
  );
  const controlTokens = new Map([...control].map(([content, { id }]) => [content, id]));
  const hidden = new Set(json.added_tokens.filter(isHidden).map(({ id }) => id));
  const encodePlain = plainEncoder(json, controlTokens);
  const splitter = new Splitter([...controlTokens.keys()]);
  const ids = [...Object.values(json.model.vocab), ...json.added_tokens.map((token) => token.id)];
  const size = 1 + ids.reduce((a, b) => Math.max(a, b), -1);
  const bytes = tokenBytesOf(json, size);
  const ofControl = new Set(controlTokens.values());
  const longest = bytes.reduce(
    (most, token, id) => Math.max(most, ofControl.has(id) ? 0 : (token?.length ?? 0)),
    1,
  );
  const bytesPerToken = longest * mostShortening(json);

  const byId = new Map([...control.values()].map((token) => [token.id, token]));
  /** Without the blanks that the control tokens beside it take, as Phi-3's do of what its template writes behind them. */
  function stripped(
    text: string,
    before: string | number | undefined,
    after: string | number | undefined,
  ): string {
    const [left, right] = [before, after].map((piece) =>
      typeof piece === 'number' ? byId.get(piece) : undefined,
    );
    const start = left?.rstrip ? text.replace(BLANKS_FIRST, '') : text;
    return right?.lstrip ? start.replace(BLANKS_LAST, '') : start;
  }

  function* encodePieces(given: readonly (string | number)[], limit: number): Steps<number[] | null> {
    const pieces = given.map((piece, at) =>
      typeof piece === 'number' ? piece : stripped(piece, given[at - 1], given[at + 1]),
    );
    const total = pieces.reduce<number>(
      (sum, piece) => sum + (typeof piece === 'string' ? utf8Length(piece) : 0),
      0,
    );
    if (total > limit * bytesPerToken) return null;
    const ids: number[] = [];
    let unpaid = 0;
    for (const [at, piece] of pieces.entries()) {
      const place: Place = at === 0 ? 'text' : 'section';
      if (typeof piece === 'number') ids.push(piece);
      else
        for (const { text, begins } of segments(piece, STEP_CHARACTERS / 2)) {
          if (unpaid >= STEP_CHARACTERS) {
            yield;
            unpaid = 0;
          }
          for (const id of encodePlain(text, begins ? place : 'inside')) ids.push(id);
          unpaid += SEGMENT_WORK + text.length;
          if (ids.length > limit) break;
        }
      if (ids.length > limit) break;
    }
    return ids;
  }

  function* encodeInSteps(
    text: string,
    { allowSpecial, limit }: { allowSpecial: boolean; limit: number },
  ): Steps<number[] | null> {
    if (!allowSpecial) return yield* encodePieces([text], limit);
    const pieces = yield* splitter.split(text);
    const known = pieces.map((piece) => controlTokens.get(piece) ?? piece);
    yield;
    return yield* encodePieces(known, limit);
  }

  return {
    encode: (text, { allowSpecial }) => finish(encodeInSteps(text, { allowSpecial, limit: Infinity })) ?? [],
    encodeInSteps,
    encodePieces,
    tokenBytes: (id) => bytes[id] ?? null,
    isSpecial: (id) => hidden.has(id),
    controlTokens,
    bosId: definition.bosId,
    eosIds: definition.eosIds,
    prefixIds: definition.prefixIds,
    chatTemplate,
    size,
  };
}
