import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ClassifyRequest, RerankRequest } from '../../protocol/classify.ts';
import { callCode, type ChatBody, classifyCode, LANGUAGES } from '../../dashboard/model/call-code.ts';

const URL = 'http://127.0.0.1:8787';
const body: ChatBody = {
  model: 'support/intent',
  messages: [{ role: 'user', content: "It's $HOME and `date`" }],
  max_tokens: 8,
};

it('is a request in each language, with the key from the environment', () => {
  expect(callCode('curl', URL, body)).toBe(
    [
      'curl http://127.0.0.1:8787/v1/chat/completions \\',
      '  -H "authorization: Bearer $GRAFT_KEY" \\',
      "  -H 'content-type: application/json' \\",
      "  -d '{",
      '    "model": "support/intent",',
      '    "messages": [',
      '      { "role": "user", "content": "It\'\\\'\'s $HOME and `date`" }',
      '    ],',
      '    "max_tokens": 8',
      "  }'",
    ].join('\n'),
  );
  expect(callCode('OpenAI Python', URL, body)).toContain(
    '    messages=[\n        {"role": "user", "content": "It\'s $HOME and `date`"},\n    ],\n    max_tokens=8,\n)',
  );
  expect(callCode('OpenAI JS', URL, body)).toContain(
    "  model: 'support/intent',\n  messages: [\n    { role: 'user', content: 'It\\'s $HOME and `date`' },\n  ],\n",
  );
});

it('passes exactly the body to the shell, whatever it contains', () => {
  const content = fc.string({
    unit: fc.constantFrom("'", '"', '\\', '$', '`', '!', '\n', 'a', 'é', '{', '#'),
  });
  fc.assert(
    fc.property(content, (text) => {
      const said = { ...body, messages: [{ role: 'user', content: text }], stop: [text] };
      const [, word = ''] = /-d ('.*')$/s.exec(callCode('curl', URL, said)) ?? [];
      // A word of POSIX's shell: quoted pieces, in which every character is itself, and quotes behind a backslash.
      const pieces = word.match(/'[^']*'|\\'/g) ?? [];
      expect(pieces.join('')).toBe(word);
      const given = pieces.map((piece) => (piece === "\\'" ? "'" : piece.slice(1, -1))).join('');
      expect(JSON.parse(given)).toEqual(said);
    }),
  );
});

it('writes an empty list in every language', () => {
  for (const language of LANGUAGES)
    expect(callCode(language, URL, { model: 'a', messages: [] })).not.toMatch(/\[\s*,/);
});

it('writes what a classifier is asked, and what sorts documents if it has one class', () => {
  const bodyOf = (code: string): unknown => JSON.parse(/-d '(.*)'$/s.exec(code)?.[1] ?? '');
  const many = classifyCode(URL, 'a/b', 3);
  expect(many).toContain(`curl ${URL}/v1/classify`);
  expect(ClassifyRequest.parse(bodyOf(many))).toMatchObject({ model: 'a/b', input: 'Hello' });
  const one = classifyCode(URL, 'a/b', 1);
  expect(one).toContain(`curl ${URL}/v1/rerank`);
  expect(RerankRequest.parse(bodyOf(one))).toMatchObject({
    model: 'a/b',
    documents: ['Good day', 'Goodbye'],
  });
});
