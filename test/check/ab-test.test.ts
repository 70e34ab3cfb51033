import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type EdgeStack, startEdgeStack } from './edge-stack.ts';

const EXAMPLE = new URL('../../examples/ab-test/', import.meta.url);

let stack: EdgeStack;
beforeAll(async () => {
  stack = await startEdgeStack();
});
afterAll(async () => {
  await stack?.stop();
});

/** A script, as a user runs it. */
function play(file: string): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const script = fileURLToPath(new URL(file, EXAMPLE));
  const child = spawn(process.execPath, [script], {
    cwd: stack.folder,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })));
}

/** Without what another run, or another CPU, has otherwise: the id, and the means and their intervals. */
const lasting = (text: string): string[] =>
  text
    .trim()
    .split('\n')
    .map((line) =>
      line
        .replace(/exp_[a-z0-9]{16}/, 'exp_')
        .replace(/: .* points: /, ': ')
        .replace(/\d+ % of fields/, 'of fields'),
    );

const readme = readFileSync(new URL('README.md', EXAMPLE), 'utf8');
/** What the README says that a script prints. */
const shownOf = (file: string): string =>
  new RegExp(`^\\$ node examples/ab-test/${file}\\n([^]*?)^\`\`\`$`, 'm').exec(readme)?.[1] ?? '';

it('examples/ab-test finds version 2 better, and goes as its README shows', async () => {
  const { code, stdout, stderr } = await play('run.mjs');
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const shown = shownOf('run.mjs');
  expect(lasting(stdout)).toEqual(lasting(shown));
  expect(lasting(shown)).toContainEqual(expect.stringMatching(/: propose_winner \(treatment\)$/));
  expect(Number(/(\d+) % of fields right$/.exec(stdout.trim())?.[1])).toBeGreaterThanOrEqual(95);
});

it('judged pairs find it better too, without a user who sees version 2', async () => {
  const { code, stdout, stderr } = await play('pairs.mjs');
  expect(stderr).toBe('');
  expect(code).toBe(0);
  // Another CPU may have another tie.
  const called = (text: string) =>
    lasting(text)
      .filter((line) => !/ won, .*: wait /.test(line))
      .map((line) => line.replace(/^\d+ won, .* of wins: /, ''));
  expect(called(stdout)).toEqual(called(shownOf('pairs.mjs')));
  expect(called(stdout)).toContain('propose_winner (treatment)');
  expect(stdout).not.toMatch(/[1-9]\d* lost/);
});
