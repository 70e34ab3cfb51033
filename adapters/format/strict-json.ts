/**
 * JSON for untrusted files. Unlike `JSON.parse` it refuses duplicate keys (the last one would win silently),
 * keeps the order of all keys (objects move integer-like ones to the front), and has no special keys: objects
 * are Maps, so `__proto__` is an ordinary name. Escapes of lone surrogates are refused, as they have no UTF-8.
 */
export type JsonValue = null | boolean | number | string | JsonValue[] | JsonObject;
export type JsonObject = Map<string, JsonValue>;

/** These files nest three levels; deep nesting is an attack on the stack. */
const MAX_DEPTH = 32;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const UNSIGNED = /(?:0|[1-9]\d*)(?![\d.eE])/y;
const SPACE = /[ \t\n\r]*/y;
const WORDS = [
  ['null', null],
  ['true', true],
  ['false', false],
] as const;
const LONE_SURROGATE = /\p{Surrogate}/u;

export type StrictJsonProblem = 'syntax' | 'duplicate_key' | 'too_many_values';

export class StrictJsonError extends Error {
  override readonly name = 'StrictJsonError';
  readonly kind: StrictJsonProblem;
  /** The key that occurs twice. */
  readonly key: string | undefined;

  constructor(kind: StrictJsonProblem, message: string, key?: string) {
    super(message);
    this.kind = kind;
    this.key = key;
  }
}

/**
 * @param options.unsignedOnly numbers must be written as unsigned integers: no sign, fraction or exponent.
 * @param options.maxValues values of all kinds together: a parsed value takes many times the bytes of its text,
 * so the text's length alone does not bound memory.
 * @throws StrictJsonError
 */
export function parseStrictJson(
  text: string,
  options: { unsignedOnly?: boolean; maxValues: number },
): JsonValue {
  const number = options.unsignedOnly ? UNSIGNED : NUMBER;
  let at = 0;
  let values = 0;

  const fail = (expected: string): never => {
    throw new StrictJsonError('syntax', `not valid JSON at character ${at}: expected ${expected}`);
  };
  /** Advances over a sticky expression's match. */
  const take = (expression: RegExp): string | null => {
    expression.lastIndex = at;
    if (!expression.test(text)) return null;
    const start = at;
    at = expression.lastIndex;
    return text.slice(start, at);
  };
  const skipSpace = () => {
    const code = text.charCodeAt(at);
    if (code <= 0x20) take(SPACE);
  };
  const eat = (character: string): boolean => {
    skipSpace();
    if (text[at] !== character) return false;
    at++;
    return true;
  };

  function string(): string {
    if (text[at] !== '"') fail('a string');
    let end = at + 1;
    let escaped = false;
    for (let code = text.charCodeAt(end); code !== 0x22; code = text.charCodeAt(end)) {
      // NaN: the text has ended.
      if (!(code >= 0x20)) fail('a closed string without control characters');
      if (code === 0x5c) escaped = true;
      end += code === 0x5c ? 2 : 1;
    }
    let value = text.slice(at + 1, end);
    if (escaped)
      try {
        value = JSON.parse(text.slice(at, end + 1)) as string;
      } catch {
        fail('a string without unknown escapes');
      }
    if (escaped && LONE_SURROGATE.test(value)) fail('a string without lone surrogates');
    at = end + 1;
    return value;
  }

  function object(depth: number): JsonObject {
    const entries: JsonObject = new Map();
    if (eat('}')) return entries;
    do {
      skipSpace();
      const key = string();
      if (entries.has(key)) throw new StrictJsonError('duplicate_key', 'a key occurs twice', key);
      if (!eat(':')) fail('":"');
      entries.set(key, value(depth));
    } while (eat(','));
    if (!eat('}')) fail('"," or "}"');
    return entries;
  }

  function array(depth: number): JsonValue[] {
    const items: JsonValue[] = [];
    if (eat(']')) return items;
    do items.push(value(depth));
    while (eat(','));
    if (!eat(']')) fail('"," or "]"');
    return items;
  }

  function value(depth: number): JsonValue {
    if (++values > options.maxValues)
      throw new StrictJsonError('too_many_values', `too long: it has more than ${options.maxValues} values`);
    if (depth > MAX_DEPTH) fail(`at most ${MAX_DEPTH} levels`);
    if (eat('{')) return object(depth + 1);
    if (eat('[')) return array(depth + 1);
    if (text[at] === '"') return string();
    // Before the words: a header is mostly numbers.
    const digits = take(number);
    if (digits !== null) return Number(digits);
    for (const [word, meaning] of WORDS)
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    return fail(options.unsignedOnly ? 'a value (unsigned integers only)' : 'a value');
  }

  const result = value(0);
  skipSpace();
  if (at !== text.length) fail('the end');
  return result;
}
