import { spawn } from 'node:child_process';
import { z } from 'zod';
import { CHECKS } from './clients.ts';
import type { Installed } from './install.ts';

/** A client that hangs is a failure. */
const TIMEOUT_MS = 120_000;

/**
 * A line of a script (`python/checks.py`, `node/checks.mjs`). `none`: the client has no such thing. `why` of
 * `ok`: what it takes, or what is refused beside it.
 */
const Outcome = z.object({
  check: z.enum(CHECKS),
  result: z.enum(['ok', 'none', 'failed']),
  why: z.string(),
});
export type Outcome = z.infer<typeof Outcome>;

/** @returns what the script found; a check of which it said nothing has failed. */
export async function runClient(installed: Installed, env: NodeJS.ProcessEnv): Promise<readonly Outcome[]> {
  const child = spawn(installed.executable, installed.args, {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: TIMEOUT_MS,
  });
  let [output, errors] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const ended = await new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(String(code ?? signal)));
  });
  // Clients print warnings of their own between the lines.
  const outcomes = output
    .split('\n')
    .filter((line) => line.startsWith('{"check"'))
    .map((line) => Outcome.parse(JSON.parse(line)));
  const why = `the script ended with ${ended}: ${(errors || output).trim().slice(-1_000)}`;
  return CHECKS.map(
    (check) => outcomes.find((one) => one.check === check) ?? { check, result: 'failed' as const, why },
  );
}
