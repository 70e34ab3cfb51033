import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compileModulePattern } from '../../../adapters/format/peft-pattern.ts';
import { refusal } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const Q0 = 'model.layers.0.self_attn.q_proj';

describe('compileModulePattern', () => {
  it.each([
    ['q_proj', Q0, true],
    ['q_proj', 'q_proj', true],
    ['proj', Q0, false],
    ['q_proj', `${Q0}x`, false],
    ['self_attn.q_proj', Q0, true],
    ['self.attn.q_proj', Q0, true],
    ['layers.0.self_attn.q_proj', 'model.layers.10.self_attn.q_proj', false],
    ['.*q_proj', 'model.aq_proj', true],
    ['^model\\.layers\\.(0|1)\\..*', Q0, true],
    ['^layers\\.0\\..*', Q0, false],
    ['layers\\.[0-9]+\\.self_attn\\.(?:q|v)_proj', Q0, true],
    ['layers\\.\\d{2,}\\.self_attn\\.q_proj', Q0, false],
    ['[^.]+_proj', Q0, true],
    ['[qkv]_proj$', Q0, true],
    ['q_proj|v_proj', Q0, true],
    ['layers.\\w.self_attn.q_proj', Q0, true],
    ['', 'model.', true],
    ['[a\\-z]_proj', 'm.-_proj', true],
    ['[_-]x', 'm.-x', true],
    ['a{,2}b', 'aab', true],
    ['(a*)*b', 'aaab', true],
  ])('%j on %s: %s', (pattern, module, expected) => {
    expect(compileModulePattern(pattern)(module)).toBe(expected);
  });

  it('matches like a regular expression', () => {
    const { pattern } = fc.letrec<{ pattern: string; atom: string }>((tie) => ({
      atom: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom('a', 'b', '_', '.', '\\.', '\\d', '\\w', '[ab]', '[^a]', '[a-c1]', '1'),
        tie('pattern').map((inner) => `(${inner})`),
        tie('pattern').map((inner) => `(?:${inner})`),
      ),
      pattern: fc
        .array(
          fc
            .array(
              fc
                .tuple(tie('atom'), fc.constantFrom('', '', '', '*', '+', '?', '{2}', '{1,}', '{0,2}', '*?'))
                .map(([atom, times]) => atom + times),
              { minLength: 1, maxLength: 3 },
            )
            .map((items) => items.join('')),
          { minLength: 1, maxLength: 2 },
        )
        .map((options) => options.join('|')),
    }));
    const anchored = fc
      .tuple(fc.constantFrom('', '', '^'), pattern, fc.constantFrom('', '', '$'))
      .map((parts) => parts.join(''));
    const module = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '1', '_', '.'), maxLength: 8 });
    fc.assert(
      fc.property(anchored, fc.array(module, { minLength: 1, maxLength: 6 }), (text, modules) => {
        fc.pre(text.length < 60);
        const matches = compileModulePattern(text);
        const expected = new RegExp(`^(.*\\.)?(${text})$`);
        for (const name of modules)
          expect([text, name, matches(name)]).toEqual([text, name, expected.test(name)]);
      }),
      { numRuns: 500 },
    );
  });

  it.each([
    '(?=a)',
    '(?!a)',
    '(?<=a)',
    '(?P<n>a)',
    '(?i)a',
    '(a)\\1',
    '\\bq',
    '\\Aq',
    '\\S+',
    'a**',
    'a*+',
    '*a',
    '+',
    'a{x}',
    '{',
    'a{3,2}',
    'a{999}',
    '(a',
    'a)',
    '[a',
    '[]a]',
    '[',
    '[b-a]',
    '[\\d-z]',
    '^*',
    'a\\',
    '((((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))))',
    '((a{256}){256}){256}',
    'a'.repeat(1_001),
  ])('refuses %j', (pattern) => {
    refusal('pattern_unsupported', () => compileModulePattern(pattern));
  });

  it('needs steps in proportion to the length on patterns that make backtracking explode', () => {
    const exploding = [
      ...['(a+)+$', '(a|a)*b', '(a|aa)+b', '(.*)*c', '([ab]*)*c', '(a?){100}a{100}'],
      // OWASP's page on ReDoS, and the usual ones of its literature.
      ...['(a+)+', '([a-zA-Z]+)*', '(a|a?)+', '(.*a){20}', '(x+x+)+y', '((a*)*)*b', '(a*a*)*b', '((a+)+)+b'],
      '^(([a-z])+.)+[A-Z]([a-z])+$',
      '^([a-zA-Z0-9])(([\\-.]|[_]+)?([a-zA-Z0-9]+))*(@){1}[a-z0-9]+[.]{1}(([a-z]{2,3})|([a-z]{2,3}[.]{1}[a-z]{2,3}))$',
      '(a|b|ab)*c',
      '(.+)+\\.(.+)+x',
      'a*a*a*a*a*a*a*a*a*a*b',
    ];
    for (const pattern of exploding) {
      let steps = 0;
      compileModulePattern(pattern)('a'.repeat(200) + '!', (count) => (steps += count));
      expect(steps).toBeLessThan(200_000);
    }
  });
});
