/**
 * The same as the originals, where JavaScript's classes of characters are others. Expected values are those of
 * `tokenizers` 0.22.2 (Rust) with these vocabularies, and of `jinja2` 3.1.6 on Python 3.11.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { readGguf } from '../../../gpu-origin/model/gguf.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { BYTE_CHARACTERS } from '../../../gpu-origin/model/tokenizer-definition.ts';
import { writeGguf } from '../../fixtures/write-gguf.ts';
import { createTokenizer, type Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { tinyMetadata, tinySentencePiece } from './tiny-tokenizer.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-originals-'));
afterAll(() => rmSync(folder, { recursive: true }));

const textsOf = (tokenizer: Tokenizer, ids: readonly number[]): string[] =>
  ids.map((id) => new TextDecoder('utf-8', { ignoreBOM: true }).decode(tokenizer.tokenBytes(id)!));

/** Two characters each; a vocabulary with their merges shows whether a pre-tokenizer keeps them together. */
const PAIRS = [
  '12',
  '٣٤',
  ' ½',
  '½½',
  'ⅧⅧ',
  '①②',
  '²3',
  '!\ufeff',
  '\ufeffa',
  '!\x85',
  '\x85\n',
  ' \x85',
  '\x1c!',
];

function pairsFile(pre: string): string {
  const merges = new Set<string>();
  const spelled = (text: string): string =>
    [...new TextEncoder().encode(text)].map((byte) => BYTE_CHARACTERS[byte]).join('');
  for (const character of PAIRS.flatMap((pair) => [...pair])) {
    const bytes = [...spelled(character)];
    for (let at = 1; at < bytes.length; at++) merges.add(`${bytes.slice(0, at).join('')} ${bytes[at]}`);
  }
  for (const pair of PAIRS) merges.add([...pair].map(spelled).join(' '));
  const path = join(folder, `${pre}.gguf`);
  const tokens = [...BYTE_CHARACTERS, ...[...merges].map((merge) => merge.replace(' ', ''))];
  const metadata = {
    'general.architecture': 'llama',
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': pre,
    'tokenizer.ggml.tokens': [...new Set(tokens)],
    'tokenizer.ggml.merges': [...merges],
  };
  writeGguf(path, metadata, []);
  return path;
}

describe.each([
  // Digits(individual_digits), then GPT-2's words.
  ['smollm', ['12', '٣٤', ' ½', '½½', 'ⅧⅧ', '①②', '²3', '\ufeffa', '!\x85']],
  ['gpt-2', ['\ufeffa', '!\x85']],
  ['llama-bpe', [' ½', '!\x85']],
  ['qwen2', ['12', '٣٤', ' ½', '½½', 'ⅧⅧ', '①②', '²3', '!\x85']],
])("a GGUF's pre-tokenizer %s", (pre, apart) => {
  const file = readGguf(pairsFile(pre));
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: file.metadata });
  file.close();

  it.each(PAIRS)('splits %j as the original', (pair) => {
    const texts = textsOf(tokenizer, tokenizer.encode(pair, { allowSpecial: false }));
    expect(texts).toEqual(apart.includes(pair) ? [...pair] : [pair]);
  });
});

describe('Metaspace', () => {
  const metaspace = (steps: object): Tokenizer => {
    const definition = tinySentencePiece();
    const pre_tokenizer = { type: 'Metaspace', replacement: '▁', ...steps };
    return createTokenizer({ ...definition, json: { ...definition.json, normalizer: null, pre_tokenizer } });
  };
  const FIRST = { prepend_scheme: 'first', split: false };
  const ALWAYS = { prepend_scheme: 'always', split: false };

  it.each([
    [FIRST, 'hello</s>hello', '▁hello </s> hello'],
    [FIRST, '</s>hello', '</s> hello'],
    [FIRST, ' hello</s> hello', '▁hello </s> ▁hello'],
    [FIRST, 'a  b', '▁ a ▁▁ b'],
    [ALWAYS, 'hello</s>hello', '▁hello </s> ▁hello'],
    [ALWAYS, '</s>hello', '</s> ▁hello'],
    [{ prepend_scheme: 'first' }, 'a  b</s>a', '▁ a ▁ ▁ b </s> a'],
    [{ add_prefix_space: true }, 'a  b</s>a', '▁ a ▁ ▁ b </s> ▁ a'],
  ])('%j of %j', (steps, text, expected) => {
    const { json } = tinySentencePiece();
    const spelled = new Map(Object.entries(json.model.vocab).map(([token, id]) => [id, token]));
    const ids = metaspace(steps).encode(text, { allowSpecial: true });
    expect(ids.map((id) => spelled.get(id)).join(' ')).toBe(expected);
  });

  it('writes no space behind control tokens of a chat template', () => {
    const tokenizer = metaspace(FIRST);
    const template = "{{ '<s>' }}{% for message in messages %}{{ message['content'] + '</s>' }}{% endfor %}";
    const chat = createChatTemplate({ ...tokenizer, chatTemplate: template })!;
    const ids = chat.encode(['hello', ' hello'].map((content) => ({ role: 'user', content })));
    expect(textsOf(tokenizer, ids)).toEqual(['<s>', 'hello', '</s>', ' hello', '</s>']);
  });
});

describe('white space of chat templates', () => {
  const VALUE = '\ufeff\x1c\x85 x y\x85z\x1f\ufeff';
  const render = (expression: string, content: string): string => {
    const source = `{% for message in messages %}{% set v = message.content %}{{ ${expression} }}{% endfor %}`;
    const tokenizer = loadTokenizer({
      kind: 'gguf',
      metadata: tinyMetadata({ 'tokenizer.chat_template': source }),
    });
    const ids = createChatTemplate(tokenizer)!.encode([{ role: 'user', content }]);
    const bytes = ids.flatMap((id) => [...tokenizer.tokenBytes(id)!]);
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytes));
  };

  it.each([
    ['v | trim', VALUE, VALUE],
    ['v.strip()', VALUE, VALUE],
    ['v | trim', VALUE.slice(1, -1), 'x y\x85z'],
    ['v.strip()', VALUE.slice(1, -1), 'x y\x85z'],
    ['v.lstrip()', VALUE.slice(1, -1), 'x y\x85z\x1f'],
    ['v.rstrip()', VALUE.slice(1, -1), '\x1c\x85 x y\x85z'],
    ["v.split() | join('|')", VALUE, '\ufeff|x|y|z|\ufeff'],
    ["v.strip('\\n')", '\n x \n', ' x '],
    ["v | trim('\\n') | upper", '\n x \n', ' X '],
    ["v.lstrip('\\n')", '\n \nx', ' \nx'],
    ["v.rstrip('\\n ').split('x')[-1]", 'xy\n \n', 'y'],
  ])('%s of %j', (expression, content, expected) => expect(render(expression, content)).toBe(expected));

  // By Python 3.11 with jinja2 3.1.
  it.each([
    ['v == false', '  ', 'False'],
    ["v != false and 'kept'", '', 'kept'],
    ["v == 0 or v == '0'", '0', 'True'],
    ["'' == 0", 'x', 'False'],
    ['1 == true', 'x', 'True'],
    ['1 == 1.0', 'x', 'True'],
    ['v == none or v == nothing', 'x', 'False'],
    ['nothing == nowhere', 'x', 'True'],
    ["[v, [1]] == ['x', [true]]", 'x', 'True'],
    ["[v] == ['y']", 'x', 'False'],
    ['{"a": v} == {"a": "x"}', 'x', 'True'],
    ['{"a": v} != {"b": "x"}', 'x', 'True'],
    ["messages | selectattr('tool_calls', 'undefined') | list | length == 1", 'x', 'True'],
    ["messages | rejectattr('tool_calls', 'undefined') | list | length == 0", 'x', 'True'],
    ["messages | selectattr('role', 'undefined') | list | length == 0", 'x', 'True'],
  ])('%s of %j, as Python compares', (expression, content, expected) =>
    expect(render(`'' ~ (${expression})`, content).toLowerCase()).toBe(expected.toLowerCase()),
  );

  it.each(['\x1c', '\x1f', '\x85', '\ufeff', '\u3000'])(
    'lets no control token through that %j was to be trimmed from',
    (blank) => {
      const template = '{% for message in messages %}{{ message.content | trim }}{% endfor %}';
      const tokenizer = loadTokenizer({
        kind: 'gguf',
        metadata: tinyMetadata({ 'tokenizer.chat_template': template }),
      });
      const contents = [`<|im_st${blank}`, `${blank}art|>`];
      const ids = createChatTemplate(tokenizer)!.encode(
        contents.map((content) => ({ role: 'user', content })),
      );
      expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(false);
    },
  );
});
