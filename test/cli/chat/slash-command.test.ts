import { describe, expect, it } from 'vitest';
import { readTurn } from '../../../cli/chat/converse.ts';

describe('readTurn', () => {
  it.each([
    ['hello', { kind: 'say', text: 'hello' }],
    [' /reset', { kind: 'say', text: ' /reset' }],
    ['/etc/hosts says what?', { kind: 'say', text: '/etc/hosts says what?' }],
    ['/help', { kind: 'help' }],
    ['/exit ', { kind: 'exit' }],
    ['/quit', { kind: 'exit' }],
    ['/reset', { kind: 'reset' }],
    ['/system', { kind: 'system', text: null }],
    ['/system Be brief.\nAnd kind.', { kind: 'system', text: 'Be brief.\nAnd kind.' }],
  ])('%j', (line, turn) => {
    expect(readTurn(line)).toEqual(turn);
  });

  it('suggests the intended command', () => {
    expect(readTurn('/rest')).toMatchObject({
      kind: 'unknown',
      message: expect.stringContaining('Did you mean /reset?'),
    });
  });
});
