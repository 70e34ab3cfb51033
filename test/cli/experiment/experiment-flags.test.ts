import { describe, expect, it } from 'vitest';
import { actionOf } from '../../../cli/experiment/experiment-flags.ts';
import { stepRequest } from '../../../cli/commands/experiment.ts';

describe('actionOf', () => {
  it.each([
    [{}, 'list'],
    [{ action: 'status' }, 'status'],
    [{ action: 'status', name: 'a', watch: true, all: false }, 'status'],
    [{ action: 'promote', name: 'a', which: 'b', why: 'x', expect: '3' }, 'promote'],
    [{ action: 'create', file: 'x.json' }, 'create'],
    [{ action: 'change', name: 'a', file: 'x.json', 'dry-run': true }, 'change'],
  ])('%j', (args, action) => expect(actionOf(args)).toBe(action));

  it.each([
    [{ action: 'begin' }, /'begin' is not one of create, list/],
    [{ action: 'start' }, /Which one/],
    [{ action: 'list', name: 'a' }, /takes no 'a'/],
    [{ action: 'stop', name: 'a', which: 'b' }, /takes no 'b'/],
    [{ action: 'start', name: 'a', coverage: '5%' }, /--coverage is not a flag of/],
    [{ action: 'start', name: 'a', 'dry-run': true }, /--dry-run is not a flag of/],
    [{ action: 'stop', name: 'a', undo: true }, /--undo is not a flag of/],
    [{ action: 'list', watch: true }, /--watch is not a flag of/],
  ])('refuses %j', (args, message) => expect(() => actionOf(args)).toThrow(message));
});

describe('stepRequest', () => {
  it.each([
    ['start', {}, {}],
    ['start', { why: 'ready', expect: '1' }, { why: 'ready', expect: 1 }],
    ['ramp', {}, {}],
    ['ramp', { coverage: '25%' }, { coverage: 0.25 }],
    ['kill', {}, { killed: true }],
    ['kill', { undo: true }, { killed: false }],
    ['promote', { variant: 'treatment' }, { variant: 'treatment' }],
    ['archive', { undo: false }, {}],
  ] as const)('%s %j', (step, flags, body) => expect(stepRequest(step, flags)).toEqual(body));

  it.each([{ coverage: '0%' }, { coverage: '5' }, { expect: '0' }, { expect: 'x' }])('refuses %j', (flags) =>
    expect(() => stepRequest('ramp', flags)).toThrow(/^--/),
  );
});
