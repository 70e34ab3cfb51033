/** The life of versions by the real command line, against a whole stack with a tiny base. */
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import type { Finished } from './graft-process.ts';
import { noTerminal, onTerminal } from './terminal.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

let stack: TinyStack;
const graft = (...args: string[]) => stack.graft(...args);
const json = async (...args: string[]): Promise<unknown> => {
  const { code, stdout, stderr } = await graft(...args, '--json');
  if (code !== 0) throw new Error(stderr);
  return JSON.parse(stdout);
};
const said = ({ code, stdout }: Finished) => `${code} ${stdout.trim()}`;
const failed = ({ code, stderr }: Finished) => ({
  exit: code,
  code: (JSON.parse(stderr) as { error: { code: string } }).error.code,
});

const kinds = Object.keys(TINY_ADAPTERS).slice(0, 2);
const publish = async (kind: number, ...more: string[]) => {
  const folder = path.join(stack.folder, `adapter-${kind}`);
  writeTinyAdapter(folder, TINY_ADAPTERS[kinds[kind] as string] as TinyAdapter);
  return json('publish', folder, '--name', 'team/notes', ...more);
};

beforeAll(async () => {
  stack = await startTinyStack();
});
afterAll(() => stack.remove());

describe('the life of versions', () => {
  it('stage, promote, roll back, retire: each said in the history', async () => {
    expect(await publish(0)).toMatchObject({ version: 1, live: true });
    expect(await publish(1, '--stage', '--why', 'candidate')).toMatchObject({ version: 2, live: false });
    expect(said(await graft('promote', 'team/notes', '--dry-run'))).toBe(
      '0 dry run: team/notes@2 would be live (now: team/notes@1)',
    );
    expect(said(await graft('promote', 'team/notes', '--why', 'it is better'))).toBe(
      '0 team/notes@2 is live (before: team/notes@1)',
    );
    expect(await json('rollback', 'team/notes', '--expect', '2')).toEqual({
      name: 'team/notes',
      version: 1,
      from: 2,
    });
    expect(failed(await graft('rollback', 'team/notes', '--expect', '2', '--json'))).toEqual({
      exit: 5,
      code: 'version_conflict',
    });
    expect(failed(await graft('retire', 'team/notes@1', '--json'))).toMatchObject({ exit: 5 });
    expect(said(await graft('retire', 'team/notes@2'))).toBe('0 team/notes@2 is retired');
    expect(failed(await graft('run', 'team/notes@2', 'hi', '--json'))).toEqual({
      exit: 3,
      code: 'model_not_found',
    });

    const { stdout } = await graft('history', 'team/notes');
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => line.trim().split(/ {2,}/).slice(1)),
    ).toEqual([
      ['ACTION', 'LIVE BEFORE', 'VERSION', 'BY', 'WHY'],
      ['retire', '1', '2', 'bootstrap'],
      ['rollback', '2', '1', 'bootstrap'],
      ['promote', '1', '2', 'bootstrap', 'it is better'],
      ['stage', '1', '2', 'bootstrap', 'candidate'],
      ['publish', '-', '1', 'bootstrap'],
    ]);
    const log = (await json('log', '--limit', '2')) as { changes: { action: string; name: string }[] };
    expect(log.changes.map(({ action, name }) => `${action} ${name}`)).toEqual([
      'retire team/notes',
      'rollback team/notes',
    ]);
    expect((await graft('log', 'team/notes')).stdout).toBe(stdout);
    expect(await json('history', '--limit', '2')).toEqual(log);
  });

  it('an alias is listed, answers, and ends', async () => {
    expect(said(await graft('alias', 'best', 'team/notes'))).toBe('0 best is an alias of team/notes');
    expect((await graft('ls')).stdout).toMatch(/^best +-> team\/notes +- /m);
    expect((await graft('run', 'best', 'hi', '--max-tokens', '2')).code).toBe(0);
    expect(said(await graft('alias', 'best', '--remove'))).toBe('0 best is no longer an alias');
    expect(failed(await graft('run', 'best', 'hi', '--json'))).toMatchObject({ exit: 3 });
    expect(failed(await graft('alias', 'best', 'absent', '--json'))).toMatchObject({ exit: 3 });
  });

  it('says what a name is for, and finds it by its tags', async () => {
    expect(said(await graft('edit', 'team/notes', '--description', 'Notes in short', '--tag', 'b,a'))).toBe(
      '0 team/notes\n  description  Notes in short\n  tags         a, b',
    );
    expect(said(await graft('edit', 'team/notes', '--tag', 'c', '--untag', 'a', '--why', 'tidied'))).toBe(
      '0 team/notes\n  description  Notes in short\n  tags         b, c',
    );
    expect((await graft('ls', '--tag', 'c')).stdout).toMatch(/^team\/notes .* b c +Notes in short$/m);
    expect((await graft('ls', '--tag', 'a')).stdout.trim()).toBe('no names');
    expect(failed(await graft('edit', 'team/notes', '--json'))).toMatchObject({ exit: 2 });
    expect(failed(await graft('edit', 'team/none', '--tag', 'x', '--json'))).toMatchObject({ exit: 3 });
    expect(failed(await graft('edit', 'team/notes', '--tag', 'No', '--json'))).toMatchObject({ exit: 2 });
    expect(await json('edit', 'team/notes', '--description', '', '--untag', 'b,c')).toMatchObject({
      description: null,
      tags: [],
    });
  });

  it('a strict name is listed, and answers for nothing below it', async () => {
    expect((await graft('run', 'team/notes/none', 'hi', '--max-tokens', '2')).code).toBe(0);
    expect(said(await graft('strict', 'team/notes', '--dry-run'))).toBe(
      '0 dry run: team/notes would be strict',
    );
    expect(said(await graft('strict', 'team/notes', '--why', 'on purpose'))).toBe('0 team/notes is strict');
    expect(said(await graft('strict', 'team/notes'))).toBe('0 team/notes is strict already; nothing changed');
    expect((await graft('ls')).stdout).toMatch(/OWNER +STRICT\n.*^team\/notes +1 +2 +default +yes$/ms);
    expect(failed(await graft('run', 'team/notes/none', 'hi', '--json'))).toEqual({
      exit: 3,
      code: 'model_not_found',
    });
    expect((await graft('run', 'team/notes', 'hi', '--max-tokens', '2')).code).toBe(0);
    expect((await graft('history', 'team/notes', '--limit', '1')).stdout).toMatch(
      /strict +1 +- +bootstrap +on purpose$/m,
    );
    expect(await json('strict', 'team/notes', '--off')).toEqual({
      name: 'team/notes',
      strict: false,
      from: true,
    });
    expect((await graft('ls')).stdout).not.toContain('STRICT');
    expect((await graft('run', 'team/notes/none', 'hi', '--max-tokens', '2')).code).toBe(0);
    expect(failed(await graft('strict', 'absent', '--json'))).toMatchObject({ exit: 3 });
  });

  it('what is removed is gone at once, and comes back as it was', async () => {
    const about = ['to be removed', '  team/notes: versions 1 to 2, 1 live'];
    const back = /restore it until \d{4}-\d\d-\d\d \d\d:\d\dZ with: graft restore team\/notes/;
    const unasked = await graft('rm', 'team/notes', '--cascade');
    expect([unasked.code, unasked.stderr]).toEqual([5, expect.stringContaining(about.join('\n'))]);
    expect(unasked.stderr).toMatch(/No terminal to confirm at\. Add --yes/);
    expect((await graft('rm', 'team/notes', '--dry-run')).stdout).toMatch(/^dry run: would be removed\n/);
    expect((await graft('run', 'team/notes', 'hi', '--max-tokens', '2')).code).toBe(0);
    const removed = await graft('rm', 'team/notes', '--yes', '--why', 'no longer asked for');
    expect([removed.code, removed.stdout]).toEqual([0, expect.stringMatching(back)]);
    for (const model of ['team/notes', 'team/notes@1'])
      expect(failed(await graft('run', model, 'hi', '--json'))).toEqual({ exit: 3, code: 'model_not_found' });
    expect((await graft('ls')).stdout).not.toContain('team/notes');
    expect((await graft('ls', '--removed')).stdout).toMatch(
      /^team\/notes +name +1, 2 +default +\S+ \S+ +\S+ \S+Z$/m,
    );
    expect(said(await graft('restore', 'team/notes'))).toBe(
      '0 restored\n  team/notes: versions 1 to 2, 1 live',
    );
    expect((await graft('run', 'team/notes', 'hi', '--max-tokens', '2')).code).toBe(0);
    expect((await graft('history', 'team/notes', '--limit', '2')).stdout).toMatch(
      /restore +- +1 +bootstrap\n.*remove +1 +- +bootstrap +no longer asked for$/m,
    );
  });

  it.skipIf(noTerminal !== null)('has the name typed on a terminal', async () => {
    const asked = (typed: string) =>
      onTerminal(['rm', 'team/notes'], {
        cwd: stack.folder,
        env: {},
        steps: [{ see: "Type 'team/notes' to confirm: " }, { type: `${typed}\r` }],
      });
    const wrong = await asked('y');
    expect(wrong).toMatchObject({ stuck: null, code: 5 });
    expect(wrong.output).toContain('nothing was changed');
    const right = await asked('team/notes');
    expect(right).toMatchObject({ stuck: null, code: 0 });
    expect(right.output).toMatch(/^removed\r?\n/m);
    expect((await graft('restore', 'team/notes')).code).toBe(0);
  });

  it('what KV has lost is found and written again', async () => {
    const right = /^\d+ names?, \d+ keys?, \d+ grants?, \d+ files?: KV matches D1$/;
    expect((await graft('repair')).stdout.trim()).toMatch(right);
    expect(await json('repair', '--dry-run')).toMatchObject({ dry_run: true, mended: [] });
    expect(said(await graft('gc', '--dry-run'))).toBe('0 no garbage');
    expect(await json('gc')).toEqual({
      dry_run: false,
      files: [],
      parts: { bytes: 0, deleted: 0 },
    });
  });

  it('wrong usage is said before anything is asked', async () => {
    expect(failed(await graft('retire', 'team/notes', '--json'))).toEqual({ exit: 2, code: 'usage' });
  });
});
