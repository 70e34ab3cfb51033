/** wrangler as a child process: its own sign-in, its own output, and failures read from its file of events. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { z } from 'zod';
import { ROOT } from '../local/origin-process.ts';

const Event = z.looseObject({
  type: z.string(),
  message: z.string().optional(),
  code: z.number().optional(),
  targets: z.array(z.string()).optional(),
});
export type WranglerEvent = z.infer<typeof Event>;

export type WranglerResult =
  { ok: true; stdout: string; events: WranglerEvent[] } | { ok: false; message: string; code: number | null };

/** Runs graft's own `wrangler` with these arguments. */
export type RunWrangler = (args: readonly string[]) => Promise<WranglerResult>;

/** Time between the first signal and SIGKILL. */
const END_MS = 3_000;
/** End of its output that is shown when it died without an event. */
const LAST_LINES = 6;

/** @param params.folder where it runs. @param params.account if the sign-in has several; null = the only one. */
export function wranglerRunner(params: {
  folder: string;
  account: string | null;
  env: NodeJS.ProcessEnv;
  signal: AbortSignal;
}): RunWrangler {
  const { folder, account, signal } = params;
  const bin = path.resolve(
    path.dirname(createRequire(path.join(ROOT, 'package.json')).resolve('wrangler')),
    '../bin/wrangler.js',
  );
  // graft's keys are not passed on.
  const env = Object.fromEntries(Object.entries(params.env).filter(([name]) => !name.startsWith('GRAFT_')));
  return async (args) => {
    signal.throwIfAborted();
    const work = await mkdtemp(path.join(os.tmpdir(), 'graft-wrangler-'));
    const told = path.join(work, 'events.ndjson');
    const child = spawn(process.execPath, [bin, ...args], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'pipe'],
      // A process group of its own, so that all of it can be ended.
      detached: true,
      env: {
        ...env,
        // It asks nothing and uses its defaults: yes to migrations, no to reports.
        CI: '1',
        NO_COLOR: '1',
        FORCE_COLOR: '0',
        WRANGLER_HIDE_BANNER: 'true',
        WRANGLER_SEND_METRICS: env['WRANGLER_SEND_METRICS'] ?? 'false',
        WRANGLER_OUTPUT_FILE_PATH: told,
        ...(account === null ? {} : { CLOUDFLARE_ACCOUNT_ID: account }),
      },
    });
    let last: NodeJS.Timeout | undefined;
    // wrangler is two processes, and the inner one may take its time.
    const stop = () => {
      endGroup(child, 'SIGTERM');
      last = setTimeout(() => endGroup(child, 'SIGKILL'), END_MS);
    };
    signal.addEventListener('abort', stop);
    let stdout = '';
    let said = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
      said += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
    try {
      const code = await new Promise<number | null>((resolve, reject) => {
        child.once('error', reject);
        child.once('close', resolve);
      });
      signal.throwIfAborted();
      const events = parseEvents(await readFile(told, 'utf8').catch(() => ''));
      if (code === 0) return { ok: true, stdout, events };
      const failure = events.find(({ type }) => type === 'command-failed');
      const lines = linesOf(said);
      const cause = lines.find((line) => /\[code: \d+\]/.test(line));
      return {
        ok: false,
        // Its first line names the request, the line with the code the reason.
        message: [failure?.message ?? lines.slice(-LAST_LINES).join('\n'), cause].filter(Boolean).join(' '),
        code: failure?.code ?? null,
      };
    } finally {
      clearTimeout(last);
      signal.removeEventListener('abort', stop);
      await rm(work, { recursive: true, force: true });
    }
  };
}

function endGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (process.platform === 'win32' || child.pid === undefined) return void child.kill(signal);
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Nothing of it is left.
  }
}

function parseEvents(text: string): WranglerEvent[] {
  return text
    .split('\n')
    .filter((line) => line.trim() !== '')
    .flatMap((line) => {
      const parsed = Event.safeParse(JSON.parse(line));
      return parsed.success ? [parsed.data] : [];
    });
}

const linesOf = (text: string): string[] =>
  stripVTControlCharacters(text)
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^🪵|please open an issue/.test(line));
