import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_GROUPS, commandNames } from '../../../cli/command-list.ts';
import { assertPlain, renderBash, renderFish, renderZsh } from '../../../cli/commands/completion.ts';
import { describeGroups, type CommandText } from '../../../cli/help.ts';

const has = (shell: string): boolean => spawnSync(shell, ['--version']).error === undefined;

let commands: CommandText[];
let folder: string;
beforeAll(async () => {
  commands = (await describeGroups(COMMAND_GROUPS)).flatMap((group) => group.commands);
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-completion-'));
  await writeFile(path.join(folder, 'rows of mine.jsonl'), '');
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** What bash offers for the last of `words`, as it splits them. */
function complete(...words: string[]): string[] {
  const script = [
    renderBash(commands),
    `COMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')})`,
    `COMP_CWORD=${words.length - 1}`,
    '_graft',
    'printf "%s\\n" "${COMPREPLY[@]}"',
  ].join('\n');
  const options = { encoding: 'utf8', cwd: folder, input: script } as const;
  return execFileSync('bash', ['--norc'], options)
    .split('\n')
    .filter((word) => word !== '');
}

describe.skipIf(!has('bash'))('bash completion', () => {
  it('the bash script is valid', () => {
    expect(spawnSync('bash', ['-n'], { input: renderBash(commands) }).status).toBe(0);
  });

  it('completes commands', () => {
    expect(complete('graft', 'pub')).toEqual(['publish']);
    expect(complete('graft', 'log')).toEqual(['log', 'logs', 'login', 'logout']);
    expect(complete('graft', '')).toEqual([...commandNames(), 'help', '--help', '--version']);
    expect(complete('graft', 'help', 'ver')).toEqual(['verify', 'versions']);
  });

  it('completes flags, the values that a flag or argument can have, and nothing where all will do', () => {
    expect(complete('graft', 'publish', '--mi')).toEqual(['--min-score']);
    expect(complete('graft', 'publish', 'x', '--name', 'a', '--dr')).toEqual(['--dry-run']);
    expect(complete('graft', 'convert', 'x', '--to', 'gg')).toEqual(['gguf']);
    expect(complete('graft', 'convert', 'x', '--to', '=', 'pe')).toEqual(['peft']);
    expect(complete('graft', 'completion', '')).toEqual(['bash', 'zsh', 'fish']);
    expect(complete('graft', 'publish', '--name', '')).toEqual([]);
    expect(complete('graft', 'nonsense', '')).toEqual([]);
  });

  it('completes files where a path goes', () => {
    expect(complete('graft', 'publish', 'ro').join(' ')).toBe('rows of mine.jsonl');
    expect(complete('graft', 'publish', '--eval', 'ro').join(' ')).toBe('rows of mine.jsonl');
    expect(complete('graft', 'ls', 'ro')).toEqual([]);
    expect(complete('graft', 'eval', '')).toEqual(['add', 'list', 'show', 'remove', 'score']);
    expect(complete('graft', 'eval', 'add', 'name', 'ro').join(' ')).toBe('rows of mine.jsonl');
  });
});

describe('zsh and fish completion', () => {
  it('name every command and flag', () => {
    for (const script of [renderZsh(commands), renderFish(commands)])
      for (const { verb, flags } of commands) {
        expect(script).toContain(verb);
        for (const { name } of flags) expect(script).toContain(name);
      }
  });

  it.skipIf(!has('zsh'))('zsh reads it', () => {
    expect(spawnSync('zsh', ['-n'], { input: renderZsh(commands) }).status).toBe(0);
  });

  it.skipIf(!has('fish'))('fish reads it', () => {
    expect(spawnSync('fish', ['--no-execute'], { input: renderFish(commands) }).status).toBe(0);
  });
});

describe('assertPlain', () => {
  it('accepts our commands, and no word that a shell would interpret', () => {
    expect(() => assertPlain(commands)).not.toThrow();
    const [first] = commands as [CommandText, ...CommandText[]];
    expect(() => assertPlain([{ ...first, verb: '$(x)' }])).toThrow(/cannot contain/);
  });
});
