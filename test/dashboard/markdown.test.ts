import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { markdownOf, type Markdown } from '../../dashboard/parts/markdown.tsx';

const text = (words: string): Markdown => ({ kind: 'text', text: words });
const paragraph = (...of: Markdown[]): Markdown => ({ kind: 'paragraph', of });

describe('an answer’s Markdown', () => {
  it.each<[string, string, Markdown[]]>([
    ['plain words', 'a\nb', [paragraph(text('a\nb'))]],
    ['a half that streams', '**a', [paragraph(text('**a'))]],
    ['half a code block', '```js\nlet a', [{ kind: 'block', text: 'let a', language: 'js' }]],
    [
      'a code block whose first line says more',
      '~~~ts title=x\n<b>\n~~~',
      [{ kind: 'block', text: '<b>', language: 'ts' }],
    ],
    [
      'a list with its own numbers',
      '3. a\n4. b',
      [{ kind: 'list', start: 3, items: ['a', 'b'].map((one) => [{ kind: 'inline', of: [text(one)] }]) }],
    ],
    ['markup', '<b>x</b>', [paragraph(text('<b>'), text('x'), text('</b>'))]],
    ['a block of markup', '<div>\nx\n</div>\n', [paragraph(text('<div>\nx\n</div>'))]],
    ['references', '&amp;&#65;&#x42;&nothing;&#0;', [paragraph(text('&AB&nothing;\ufffd'))]],
    ['what is escaped', '\\*a', [paragraph(text('*'), text('a'))]],
  ])('of %s', (_what, given, expected) => {
    expect(markdownOf(given)).toEqual(expected);
  });

  it.each([
    ['[a](http://b.c)', 'http://b.c'],
    ['[a](HTTPS://b.c/d)', 'HTTPS://b.c/d'],
    ['<https://b.c>', 'https://b.c'],
    ['![a](https://b.c/d.png)', 'https://b.c/d.png'],
    ['[a](https://b.c/?d&amp;e)', 'https://b.c/?d&e'],
    ['[a][1]\n\n[1]: https://b.c', 'https://b.c'],
    ['[a](javascript:b)', null],
    ['[a](java&#115;cript:b)', null],
    ['[a](&#106;avascript:b)', null],
    ['[a](<java\tscript:b>)', null],
    ['[a](data:text/html,b)', null],
    ['[a](//b.c)', null],
    ['[a](/b)', null],
    ['[a](#/keys)', null],
    ['[a](https:b)', null],
    ['[a](http:///b)', null],
    ['a@b.cd', null],
    ['![a](blob:b)', null],
  ])('%s leads to %s', (given, expected) => {
    const links: string[] = [];
    const look = (of: readonly Markdown[]): void =>
      of.forEach((one) => {
        if (one.kind === 'link') links.push(one.href);
        if ('of' in one) look(one.of);
      });
    look(markdownOf(given)!);
    expect(links).toEqual(expected === null ? [] : [expected]);
  });

  it('is text if it is too long, or nested too deep', () => {
    expect(markdownOf('a'.repeat(20_001))).toBeNull();
    expect(markdownOf(`${'>'.repeat(30)} a`)).toBeNull();
    expect(markdownOf('>'.repeat(19_000))).toBeNull();
    expect(markdownOf(`${'>'.repeat(10)} a`)).not.toBeNull();
  });

  it('is found in any input, cut anywhere', () => {
    const pieces = [
      '*',
      '_',
      '`',
      '```',
      '\n',
      '> ',
      '- ',
      '1. ',
      '|',
      '[',
      '](',
      ')',
      '<b>',
      '&#',
      '#',
      'a',
    ];
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 30 }), (all) => {
        expect(Array.isArray(markdownOf(all.join('')))).toBe(true);
      }),
    );
  });
});
