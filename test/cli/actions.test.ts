import { describe, expect, it } from 'vitest';
import { pickAction, type Actions } from '../../cli/command.ts';
import { COMMAND_GROUPS, findCommand } from '../../cli/command-list.ts';
import { commonFlags } from '../../cli/flags.ts';
import { describeAction, describeCommand, usageLine } from '../../cli/help.ts';

const ACTIONS = {
  list: { summary: 'List', arguments: [], flags: ['all'] },
  create: { summary: 'Create', arguments: ['id'], flags: ['rpm', 'label'] },
  change: { summary: 'Change', arguments: ['id'], flags: ['rpm'] },
} as const satisfies Actions;
const pick = (word: string, args: Record<string, unknown> = {}) =>
  pickAction({ verb: 'keys', actions: ACTIONS, word, args });

describe('pickAction', () => {
  it('accepts an action with its own flags, and with switches that are off', () => {
    expect(pick('create', { rpm: '3', all: false })).toBe('create');
  });

  it.each([
    ['crate', {}, "'crate' is not one of list, create, change. Did you mean graft keys create?"],
    [
      'list',
      { rpm: '3' },
      '--rpm is not a flag of `graft keys list`. Use it with `graft keys create` or `graft keys change`.',
    ],
    [
      'change',
      { label: 'x' },
      '--label is not a flag of `graft keys change`. Use it with `graft keys create`.',
    ],
  ])('refuses %s with %j', (word, args, message) => {
    expect(() => pick(word, args)).toThrow(message);
  });
});

const withActions = COMMAND_GROUPS.flatMap(({ commands }) => Object.keys(commands)).filter((verb) =>
  ['eval', 'experiment', 'keys', 'limits', 'webhook'].includes(verb),
);

describe.each(withActions)('the actions of graft %s', (verb) => {
  it('all flags and arguments of actions exist, and each flag belongs to an action', async () => {
    const command = findCommand(verb)!;
    const module = await command.load();
    const args = module.default.args as Record<string, { type: string }>;
    const flags = Object.keys(args).filter((name) => args[name]?.type !== 'positional');
    const actions = Object.values(module.actions ?? {});
    const taken = new Set(actions.flatMap((action) => action.flags));
    expect([...taken].sort()).toEqual(
      flags.filter((name) => !Object.hasOwn(commonFlags, name) || taken.has(name)).sort(),
    );
    for (const name of actions.flatMap((action) => action.arguments.map((text) => text.replace('?', ''))))
      expect(args[name]?.type).toBe('positional');
  });

  it('each action has its own help, without flags of others', async () => {
    const command = findCommand(verb)!;
    const module = await command.load();
    const whole = describeCommand(verb, command, module);
    for (const { name, flags } of whole.actions) {
      const own = describeAction(whole, name);
      expect(own.verb).toBe(`${verb} ${name}`);
      expect(own.flags.map((flag) => flag.name).sort()).toEqual(
        [...new Set([...flags, ...Object.keys(commonFlags)])].sort(),
      );
    }
    expect(describeAction(whole, 'none')).toBe(whole);
  });
});

it('lists the arguments that an action needs', async () => {
  const command = findCommand('experiment')!;
  const whole = describeCommand('experiment', command, await command.load());
  expect(usageLine(describeAction(whole, 'promote'))).toBe('graft experiment promote <name> [which] [flags]');
  expect(usageLine(describeAction(whole, 'status'))).toBe('graft experiment status [name] [flags]');
});
