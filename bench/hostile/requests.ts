/** Requests of which each field costs as much as somebody who means harm can make it: the same for the same seed. */
import { seededRandom } from '../seeded-random.ts';

/** What is hostile about a request: the same one without it costs next to nothing. */
export const KEYWORDS = [
  'guided_regex',
  'pattern',
  'guided_grammar',
  'guided_choice',
  'schema',
  'tools',
  'logit_bias',
  'stop',
  'messages',
] as const;
export type Keyword = (typeof KEYWORDS)[number];

export interface HostileRequest {
  keyword: Keyword;
  /** What it tries, in a few words. */
  attempt: string;
  /** Of a chat completion, without `model`. */
  body: Record<string, unknown>;
}

/** Tokens of an answer: enough for masks and stops to be looked at some times. */
const TOKENS = 4;
/** Bytes that a body has at most: the rest is room for what stands around it. */
const MOST_BYTES = 900_000;

const HELLO = [{ role: 'user', content: 'Hello' }];

/** A request of this kind with nothing hostile in it. @param promptTokens about how many its prompt has at least. */
export const harmless = (promptTokens = 0): Record<string, unknown> => ({
  messages: [
    ...HELLO,
    ...many(promptTokens > 0 ? 1 : 0, () => ({ role: 'user', content: ' word'.repeat(promptTokens) })),
  ],
  max_tokens: TOKENS,
});

/** @returns `count` requests, the keywords in turn. */
export function hostileRequests(count: number, seed: number): HostileRequest[] {
  const random = new Chance(seed);
  return Array.from({ length: count }, (_, at) => {
    const keyword = KEYWORDS[at % KEYWORDS.length]!;
    const [attempt, fields] = MAKERS[keyword](random);
    return { keyword, attempt, body: { ...harmless(), ...fields } };
  });
}

class Chance {
  readonly #next: () => number;

  constructor(seed: number) {
    this.#next = seededRandom(seed);
  }

  /** Both ends included. */
  whole(least: number, most: number): number {
    return least + Math.floor(this.#next() * (most - least + 1));
  }

  pick<T>(all: readonly T[]): T {
    return all[this.whole(0, all.length - 1)]!;
  }

  text(length: number, letters: string): string {
    return Array.from({ length }, () => letters[this.whole(0, letters.length - 1)]!).join('');
  }
}

type Attempt<T> = readonly [attempt: string, value: T];
const many = <T>(count: number, make: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => make(at));
const record = <T>(count: number, make: (at: number) => T): Record<string, T> =>
  Object.fromEntries(many(count, (at) => [`p${at}`, make(at)]));
const shorten = <T>(list: readonly T[], mostBytes: number): T[] => {
  let bytes = 0;
  return list.filter((one) => (bytes += Buffer.byteLength(JSON.stringify(one)) + 1) <= mostBytes);
};

/** Code points from U+4E00 on with gaps between them, so that no two are one range. */
const apart = (count: number, from = 0x4e00): string =>
  many(count, (at) => String.fromCodePoint(from + at * 3)).join('');

/** At most 2,048 characters. */
function regex(random: Chance): Attempt<string> {
  const count = () => random.whole(50, 256);
  const atom = () => random.pick(['x', '.', '\\w', '\\d', '\\s', '\\S', '[a-z]', '[\\s\\S]', '[^é]']);
  const attempts: (() => Attempt<string>)[] = [
    () => ['optional in optional', `((${atom()}?){${count()}}){${count()}}`],
    () => ['three deep', `(((${atom()}){0,${count()}}){0,${count()}}){0,${count()}}`],
    () => ['two in turn', `((${atom()}?${atom()}?){${count()}})`],
    () => ['optional runs', many(random.whole(3, 8), () => `(${atom()}?){${count()}}`).join('')],
    () => ['bounded runs', many(random.whole(3, 8), () => `${atom()}{0,${count()}}`).join('')],
    () => ['wide class', `[${apart(random.whole(200, 256), random.whole(0x3000, 0x5000))}]{${count()}}`],
    () => ['wider class', `[${apart(random.whole(257, 1_500))}]{${count()}}`],
    () => ['class of others', `[^${apart(random.whole(200, 255))}]{${count()}}`],
    () => [
      'many classes',
      `(${many(random.whole(40, 60), (at) => `[${apart(8, 0x3000 + at)}]`).join('|')}){${count()}}`,
    ],
    () => ['one of the last', `[ab]*a[ab]{${random.whole(8, 250)}}`],
    () => [
      'many of the last',
      `(${many(20, () => `.*${random.text(2, 'ab')}.{${random.whole(1, 30)}}`).join('|')})`,
    ],
    () => ['beginnings', `(${many(60, (at) => 'a'.repeat(at + 1)).join('|')}){${count()}}`],
    () => ['ambiguous', `((${atom()}|${atom()}|${atom()}${atom()})*){${count()}}`],
    () => ['nothing', `${'('.repeat(30)}${`){${count()}}`.repeat(30)}`],
    () => ['deep', `${'('.repeat(31)}a?${')?'.repeat(31)}{${count()}}`],
    () => [
      'long',
      many(400, () => `${atom()}?`)
        .join('')
        .slice(0, 2_000)
        .replace(/[\\[][^?]*$/, ''),
    ],
    () => ['spaces in a class', `[${'\\s\\S'.repeat(500)}]{${count()}}`],
  ];
  return random.pick(attempts)();
}

/** At most 65,536 bytes. */
function schema(random: Chance): Attempt<Record<string, unknown>> {
  const attempts: (() => Attempt<Record<string, unknown>>)[] = [
    () => {
      const values = random.whole(50, 100);
      return ['oneOf of lists', { oneOf: many(100, (i) => ({ enum: many(values, (j) => `v${i}_${j}`) })) }];
    },
    () => ['oneOf of constants', { oneOf: many(random.whole(1_000, 3_500), (i) => ({ const: i })) }],
    () => [
      'oneOf of objects',
      {
        oneOf: many(random.whole(100, 500), (i) => ({
          ...{ type: 'object', required: ['a', 'b'] },
          properties: { a: { const: i % 25 }, b: { const: Math.floor(i / 25) } },
        })),
      },
    ],
    () => [
      'references',
      {
        $defs: record(60, (at) => ({
          anyOf: many(20, () => ({ $ref: `#/$defs/p${(at + 1) % 60}` })).concat({ $ref: '#/$defs/z' }),
        })),
        ...{ $ref: '#/$defs/p0' },
      },
    ],
    () => [
      'deep anyOf',
      many(60, (at) => at).reduce<Record<string, unknown>>(
        (inner, at) => ({
          anyOf: [inner, { const: at }, { type: 'object', additionalProperties: { enum: [at] } }],
        }),
        { type: 'null' },
      ),
    ],
    () => [
      'bounds',
      {
        type: 'object',
        properties: record(900, (at) => ({ type: 'number', minimum: -at, maximum: 10 ** 14 + at })),
      },
    ],
    () => [
      'lengths',
      {
        type: 'object',
        properties: record(900, (at) => ({
          type: 'string',
          minLength: at % 128,
          maxLength: 256 - (at % 97),
        })),
      },
    ],
    () => [
      'formats',
      {
        type: 'object',
        properties: record(300, (at) => ({ type: 'string', format: 'uri', maxLength: 100 + (at % 150) })),
      },
    ],
    () => [
      'lists',
      {
        type: 'object',
        properties: record(400, (at) => ({ type: 'array', items: { const: at }, maxItems: 1_000 })),
      },
    ],
    () => [
      'other names',
      {
        ...{ type: 'object', additionalProperties: true },
        properties: Object.fromEntries(
          shorten(
            many(500, () => random.text(random.whole(20, 100), 'abé')),
            50_000,
          ).map((name) => [name, true]),
        ),
      },
    ],
    () => [
      'other names, often',
      {
        anyOf: many(60, (i) => ({
          ...{ type: 'object', additionalProperties: { const: i } },
          properties: Object.fromEntries(many(50, (j) => [`name_${j}_${i}`, true])),
        })),
      },
    ],
    () => [
      'needed often',
      { type: 'object', required: many(12_000, (at) => `k${at % 400}`), properties: record(400, () => true) },
    ],
    () => [
      'long list',
      {
        enum: shorten(
          many(1_000, () => random.text(random.whole(30, 60), 'ab日')),
          60_000,
        ),
      },
    ],
    () => ['beginnings', { enum: many(300, (at) => 'a'.repeat(at + 1)) }],
    () => [
      'deep constant',
      { enum: many(20, (at) => many(40, (i) => i).reduce<unknown>((inner) => [inner, at], at)) },
    ],
    () => ['names of types', { type: many(5_000, (at) => ['object', 'array', 'string', 'null'][at % 4]) }],
    () => ['tuple', { type: 'array', prefixItems: many(2_000, (at) => ({ const: at })) }],
    () => [
      'open objects',
      many(30, (at) => at).reduce<Record<string, unknown>>(
        (inner, at) => ({
          ...{ type: 'object', required: ['a', 'b', `c${at}`], additionalProperties: inner },
          properties: { [`p${at}`]: true },
        }),
        { type: 'integer' },
      ),
    ],
  ];
  return random.pick(attempts)();
}

/** At most 16,384 characters. */
function grammar(random: Chance): Attempt<string> {
  const attempts: (() => Attempt<string>)[] = [
    () => ['repetitions in others', `root ::= ${'('.repeat(4)}"a"${`{${random.whole(50, 256)}})`.repeat(4)}`],
    () => ['repetitions in a row', `root ::= ${'"a"{256} '.repeat(random.whole(500, 1_500))}`],
    () => ['groups', `root ::= ${'('.repeat(3_000)}"a"${')'.repeat(3_000)}`],
    () => ['classes of others', `root ::= ${'[^é] '.repeat(random.whole(500, 3_000))}`],
    () => [
      'different classes',
      `root ::= ${many(900, (at) => `[^${String.fromCodePoint(0x100 + at)}é]`).join(' ')}`,
    ],
    () => ['wide class', `root ::= [${apart(random.whole(1_000, 5_000))}]`],
    () => ['ambiguous', 'root ::= s\ns ::= s s s | s s | [a-z] | ""'],
    () => [
      'doubling',
      `root ::= r0\n${many(200, (at) => `r${at} ::= r${at + 1} r${at + 1}\n`).join('')}r200 ::= "a"`,
    ],
    () => ['empty rules', `root ::= ${'e '.repeat(4_000)}\ne ::= ""`],
    () => ['long text', `root ::= "${random.text(8_000, 'é日a')}"`],
    () => ['choices', `root ::= ${many(1_500, (at) => `"${'a'.repeat(at % 7)}${at}"`).join(' | ')}`],
    () => ['digits', `root ::= "a"{${'1'.repeat(15_000)}}`],
  ];
  return random.pick(attempts)();
}

function choice(random: Chance): Attempt<string[]> {
  const attempts: (() => Attempt<string[]>)[] = [
    () => ['many', many(1_000, (at) => `${random.text(60, 'abc')}${at}`)],
    () => ['long', many(random.whole(30, 500), (at) => `${random.text(random.whole(100, 500), 'ab')}${at}`)],
    () => ['beginnings', many(random.whole(200, 360), (at) => 'a'.repeat(at + 1))],
    () => ['shared beginning', many(200, (at) => `${'ab'.repeat(150)}${at}`)],
    () => ['other scripts', many(700, (at) => `${random.text(20, '日本語é😀'.slice(0, 4))}${at}`)],
  ];
  return random.pick(attempts)();
}

function tools(random: Chance): Attempt<Record<string, unknown>> {
  const [attempt] = schema(random);
  const count = random.whole(16, 128);
  const strict = random.pick([true, false]);
  const of = random.pick([
    () => schema(random)[1],
    (at: number) => ({ ...schema(random)[1], description: `${at}` }),
    (at: number) => ({
      properties: record(20, (i) => ({
        type: 'string',
        pattern: `^(${regex(random)[1]})$`,
        description: `${at} ${i}`,
      })),
    }),
  ]);
  const list = many(count, (at) => ({
    type: 'function',
    function: {
      name: `${'f'.repeat(50)}${at}`,
      strict,
      parameters: { type: 'object', properties: { x: of(at) } },
    },
  }));
  return [
    `${attempt} and others`,
    { tools: shorten(list, MOST_BYTES), tool_choice: random.pick(['auto', 'required']) },
  ];
}

const MAKERS: Record<Keyword, (random: Chance) => Attempt<Record<string, unknown>>> = {
  guided_regex: (random) => {
    const [attempt, value] = regex(random);
    return [attempt, { guided_regex: value.slice(0, 2_048) }];
  },
  pattern: (random) => {
    const many1 = random.whole(1, 30);
    const all = many(many1, () => regex(random));
    const patterns = shorten(
      all.map(([, pattern]) => pattern),
      50_000,
    );
    const properties = record(patterns.length, (at) => ({
      ...{ type: 'string', pattern: random.pick([`^(${patterns[at]!})$`, patterns[at]!]) },
      ...random.pick([{}, { maxLength: 256 }, { format: 'uri' }]),
    }));
    return [`${all[0]![0]}, ${many1} times`, asFormat({ type: 'object', properties })];
  },
  guided_grammar: (random) => {
    const [attempt, value] = grammar(random);
    return [attempt, { guided_grammar: value.slice(0, 16_384) }];
  },
  guided_choice: (random) => {
    const [attempt, value] = choice(random);
    return [attempt, { guided_choice: shorten(value, random.pick([60_000, 65_000, 400_000])) }];
  },
  schema: (random) => {
    const [attempt, value] = schema(random);
    return [attempt, asFormat(value)];
  },
  tools,
  logit_bias: (random) => [
    '300 tokens',
    {
      logit_bias: Object.fromEntries(
        many(300, () => [String(random.whole(0, 40_000)), random.pick([-100, 100, 0.5])]),
      ),
    },
  ],
  stop: (random) => [
    '32 texts and 128 tokens',
    {
      stop: many(32, () => `${random.pick(['a', ' ', '\n']).repeat(random.whole(200, 255))}!`),
      stop_token_ids: many(128, () => random.whole(0, 40_000)),
    },
  ],
  messages: (random) => {
    const part = { type: 'text', text: '' };
    return random.pick<Attempt<Record<string, unknown>>>([
      [
        '2,048 messages',
        { messages: many(2_048, (at) => ({ role: at % 2 === 0 ? 'user' : 'assistant', content: 'a' })) },
      ],
      ['8,192 parts', { messages: many(8, () => ({ role: 'user', content: many(1_024, () => part) })) }],
      [
        'one long run',
        { messages: [{ role: 'user', content: random.pick([' ', '-', 'a', '日']).repeat(200_000) }] },
      ],
    ]);
  },
};

const asFormat = (value: object): Record<string, unknown> => ({
  response_format: { type: 'json_schema', json_schema: { name: 'hostile', strict: true, schema: value } },
});
