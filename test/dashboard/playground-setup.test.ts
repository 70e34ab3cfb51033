import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chatBody,
  DEFAULT_PARAMETERS,
  EMPTY_BROWSER_SETUP,
  EMPTY_SETUP,
  setupOf,
  setupQuery,
  type Setup,
} from '../../dashboard/model/playground-setup.ts';

describe('the address', () => {
  it('contains only changed settings', () => {
    expect(setupQuery(EMPTY_SETUP).toString()).toBe('');
  });

  it('restores all settings', () => {
    const text = fc.string({ unit: 'grapheme', maxLength: 40 });
    const setups = fc.record({
      left: text,
      right: text,
      system: text,
      prompt: text,
      parameters: fc.record({ temperature: text, top_p: text, max_tokens: text, seed: text, stop: text }),
    });
    fc.assert(
      fc.property(setups, (setup: Setup) => {
        expect(setupOf(setupQuery(setup).toString(), EMPTY_SETUP)).toEqual(setup);
      }),
    );
  });

  it('has one name for the page that asks one name twice', () => {
    const here = { ...EMPTY_BROWSER_SETUP, name: 'a/b', system: 'x' };
    expect(setupQuery(here).toString()).toBe('name=a%2Fb&system=x');
    expect(setupOf('name=a%2Fb&system=x&left=c', EMPTY_BROWSER_SETUP)).toEqual(here);
  });

  it('leaves out texts that are too long, and keeps settings that it does not mention', () => {
    const long = { ...EMPTY_SETUP, prompt: 'x'.repeat(1_501), system: 'y' };
    expect(setupQuery(long).toString()).toBe('system=y');
    const before = { ...EMPTY_SETUP, left: 'a', prompt: 'b' };
    expect(setupOf('right=c&unknown=d', before)).toEqual({ ...before, right: 'c' });
  });
});

describe('the request', () => {
  it('contains the system message, earlier turns, the prompt, and the set parameters', () => {
    const parameters = { ...DEFAULT_PARAMETERS, top_p: ' ', seed: '7', stop: 'END\n\n###' };
    const before = [
      { prompt: 'one', answer: 'two' },
      { prompt: 'three', answer: '' },
    ];
    expect(chatBody('a/b', { system: 'Be brief.', parameters }, before, 'four')).toEqual({
      model: 'a/b',
      messages: [
        { role: 'system', content: 'Be brief.' },
        { role: 'user', content: 'one' },
        { role: 'assistant', content: 'two' },
        { role: 'user', content: 'three' },
        { role: 'user', content: 'four' },
      ],
      temperature: 0,
      max_tokens: 256,
      seed: 7,
      stop: ['END', '###'],
    });
  });

  it('is short with few settings', () => {
    const parameters = { temperature: '', top_p: '', max_tokens: '', seed: '', stop: '' };
    expect(chatBody('a', { system: ' ', parameters }, [], 'hi')).toEqual({
      model: 'a',
      messages: [{ role: 'user', content: 'hi' }],
    });
  });
});
