import { stripVTControlCharacters } from 'node:util';
import { defineCommand } from 'citty';
import { describe, expect, it } from 'vitest';
import { COMMAND_GROUPS, commandNames, findCommand } from '../../../cli/command-list.ts';
import {
  describeCommand,
  describeGroups,
  usageLine,
  renderCommandHelp,
  renderRootHelp,
} from '../../../cli/help.ts';

const SAMPLE = describeCommand(
  'pack',
  { summary: 'Pack things' },
  {
    default: defineCommand({
      meta: { name: 'pack' },
      args: {
        path: { type: 'positional', description: 'What', valueHint: 'path', required: true },
        more: { type: 'positional', description: 'More', required: false },
        out: { type: 'string', alias: 'o', description: 'Where to', valueHint: 'path', required: true },
        to: { type: 'enum', options: ['a', 'b'], description: 'Form', default: 'a' },
        verbose: { type: 'boolean', description: 'Say more' },
        examples: { type: 'boolean', description: 'Write examples', default: true },
      },
    }),
    help: { examples: [{ line: 'graft pack x -o y', does: 'packs x' }] },
  },
);

/** Commands that are others under a further name. */
const ALIASES: Readonly<Record<string, string>> = {
  log: 'history',
  chat: 'run',
  list: 'ls',
  logs: 'requests',
};

describe('describeCommand', () => {
  it('describes a definition as typed on the command line', () => {
    expect(usageLine(SAMPLE)).toBe('graft pack <path> [more] --out <path> [flags]');
    expect(SAMPLE.flags.map(({ name, value, options, isPath }) => [name, value, options, isPath])).toEqual([
      ['out', 'path', [], true],
      ['to', 'a|b', ['a', 'b'], false],
      ['verbose', null, [], false],
      ['no-examples', null, [], false],
    ]);
    expect(SAMPLE.flags.at(-1)?.description).toBe('Do not write examples');
  });
});

describe('renderCommandHelp', () => {
  it('shows usage, arguments, flags and examples', () => {
    expect(stripVTControlCharacters(renderCommandHelp(SAMPLE))).toBe(
      [
        'Pack things',
        '',
        'usage  graft pack <path> [more] --out <path> [flags]',
        '',
        'arguments',
        '  <path>  What',
        '  [more]  More',
        '',
        'flags',
        '  -o, --out <path>  Where to (required)',
        '  --to <a|b>        Form (default: a)',
        '  --verbose         Say more',
        '  --no-examples     Do not write examples',
        '',
        'examples',
        '  graft pack x -o y',
        '      packs x',
      ].join('\n'),
    );
  });
});

describe('help in a narrow terminal', () => {
  it.each([40, 60, 80])('takes at most %d columns, and says the same', async (width) => {
    const publish = await findCommand('publish')!.load();
    const command = describeCommand('publish', { summary: 'Publish' }, publish);
    const words = (text: string) => stripVTControlCharacters(text).split(/\s+/).join(' ');
    const help = stripVTControlCharacters(renderCommandHelp({ ...command, examples: [] }, width));
    expect(words(help)).toBe(words(renderCommandHelp({ ...command, examples: [] }, 1_000)));
    for (const line of help.split('\n')) expect(line.length, line).toBeLessThanOrEqual(Math.max(width, 50));
    const root = renderRootHelp({ version: '1.2.3', description: 'Serves.', groups: COMMAND_GROUPS, width });
    for (const line of stripVTControlCharacters(root).split('\n'))
      expect(line.length).toBeLessThanOrEqual(width);
  });
});

describe('the commands', () => {
  it('are all in the root help, once, under their own names', async () => {
    const help = renderRootHelp({ version: '1.2.3', description: 'Serves.', groups: COMMAND_GROUPS });
    const text = stripVTControlCharacters(help);
    for (const { title } of COMMAND_GROUPS) expect(text).toContain(`\n${title}\n`);
    for (const verb of commandNames()) {
      expect(text.match(new RegExp(`^ {2}${verb} `, 'gm'))).toHaveLength(1);
      const module = await findCommand(verb)?.load();
      expect((module?.default.meta as { name: string }).name).toBe(ALIASES[verb] ?? verb);
    }
    expect(findCommand('toString')).toBeUndefined();
  });

  it('have a description for everything, and take --json', async () => {
    for (const command of (await describeGroups(COMMAND_GROUPS)).flatMap((group) => group.commands)) {
      for (const { description } of [command, ...command.arguments, ...command.flags])
        expect(description, command.verb).toMatch(/^\S.*[^.]$/);
      if (command.verb !== 'completion')
        expect(
          command.flags.map(({ name }) => name),
          command.verb,
        ).toContain('json');
      // What has to come before it may be among them, such as `graft publish` before `graft promote`.
      for (const { line } of command.examples) expect(line).toContain('graft ');
      if (command.examples.length > 0)
        expect(command.examples.map(({ line }) => line).join('\n')).toContain(`graft ${command.verb}`);
    }
  });
});
