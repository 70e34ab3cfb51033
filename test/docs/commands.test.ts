/** Commands in README and docs exist, with their flags, files and scripts. test/check/documented-commands.test.ts runs them. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { findCommand } from '../../cli/command-list.ts';
import { refuseUnknownFlags } from '../../cli/flags.ts';
import packageJson from '../../package.json' with { type: 'json' };
import { type CodeBlock, codeBlocks, commandBlocks, PAGES, programsIn, ROOT } from './code-blocks.ts';

/** What blocks are written in. A block without a language could be commands that nothing looks at. */
const LANGUAGES = ['sh', 'console', 'text', 'http', 'json', 'yaml', 'sql', 'ts', 'js', 'python'];

const isFile = (name: string): boolean => existsSync(path.join(ROOT, name));

const WRANGLER =
  /^(login|(kv (key (put|get)|namespace create)|d1 (create|migrations apply|export)|r2 bucket create|deploy|dev|secret put|tail)\b.*)$/;

/** By program: what is wrong with its words; null when nothing is. A program that is not here is a typing error. */
const PROGRAMS: Readonly<
  Record<string, (words: readonly string[]) => Promise<string | null> | string | null>
> = {
  graft: async ([verb = '', ...rest]) => {
    const command = findCommand(verb);
    if (command === undefined) return `there is no command ${verb}`;
    const { args = {} } = (await command.load()).default;
    try {
      refuseUnknownFlags(rest, args as Parameters<typeof refuseUnknownFlags>[1]);
      return null;
    } catch (error) {
      return String(error);
    }
  },
  npx: ([program = '', ...rest]) => refused([program, ...rest]),
  npm: ([verb = '', script = '']) =>
    ['ci', 'start', 'test', 'install', 'publish'].includes(verb) ||
    (verb === 'run' && script in packageJson.scripts)
      ? null
      : `there is no script ${script}`,
  node: ([file = '']) => (file.startsWith('-') || isFile(file) ? null : `there is no ${file}`),
  vitest: (words) => words.find((word) => word.includes('/') && !isFile(word)) ?? null,
  wrangler: (words) => (WRANGLER.test(words.join(' ')) ? null : 'wrangler has no such command'),
  curl: (words) => {
    const body = words[words.indexOf('-d') + 1] ?? '';
    if (words.includes('-d')) JSON.parse(body);
    return null;
  },
  // Recorded where it fails. The machine's own folders are another one's.
  cd: ([folder = '']) => (folder.startsWith('/') ? null : `there is no folder ${folder}`),
  docker: () => null,
  kubectl: (words) => words.find((word) => word.startsWith('deploy/') && !isFile(word)) ?? null,
  sudo: (words) => refused(words),
  env: (words) => refused(words.filter((word) => !word.includes('='))),
  cp: (words) => words.slice(0, -1).find((word) => word.startsWith('deploy/') && !isFile(word)) ?? null,
  ...Object.fromEntries(
    [
      'gcc',
      'git',
      'install',
      'systemctl',
      'journalctl',
      'cat',
      'openssl',
      'vllm',
      'openai-compatibility-tester',
    ].map((name) => [name, () => null]),
  ),
};

async function refused([program = '', ...words]: readonly string[]): Promise<string | null> {
  const known = PROGRAMS[program];
  return known === undefined ? `${program} is not a program that pages use` : known(words);
}

describe.each(PAGES)('%s', (page) => {
  it('says of each block what it is written in', () => {
    const unclear = ({ language }: CodeBlock): boolean => !LANGUAGES.includes(language);
    expect(codeBlocks(page).filter(unclear)).toEqual([]);
  });

  it('has commands that exist', async () => {
    const blocks = commandBlocks(page);
    const wrong: string[] = [];
    const started = programsIn(blocks.map(({ commands }) => commands.map(({ text }) => text)));
    expect(started).toHaveLength(blocks.length);
    for (const [at, { line }] of blocks.entries()) {
      const programs = started[at]!;
      expect(programs, `${page}:${line}`).not.toEqual([]);
      for (const words of programs) {
        const why = await refused(words);
        if (why !== null) wrong.push(`${page}:${line}: ${words.join(' ')}: ${why}`);
      }
    }
    expect(wrong).toEqual([]);
  });
});

it('finds what it looks for', async () => {
  const blocks = PAGES.flatMap(commandBlocks);
  expect(blocks.length).toBeGreaterThan(60);
  expect(blocks.filter(({ dry }) => dry !== null).length).toBeGreaterThan(5);
  expect(programsIn([['sudo a b && X=1 npx graft ls "c d" > e'], ['cd nowhere']])).toEqual([
    [
      ['sudo', 'a', 'b'],
      ['npx', 'graft', 'ls', 'c d'],
    ],
    [['cd', 'nowhere']],
  ]);
  expect(await refused(['npx', 'graft', 'ls', '--nonsense'])).toMatch(/Unknown flag/);
  expect(await refused(['npx', 'graft', 'sl'])).toBe('there is no command sl');
});
