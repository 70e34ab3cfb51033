import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import packageJson from '../../package.json' with { type: 'json' };
import { CliError, EXIT } from '../cli-error.ts';
import type { Output, Progress } from '../output.ts';

/**
 * The package's root folder: the nearest one above with a package.json, both from the sources and from
 * dist/cli.
 */
export const ROOT = packageRoot(import.meta.dirname);

/** Files of `gpu-origin/` that are programs. */
type OriginProgram = 'main' | 'export-web-base' | 'train';

/** Output of `bin/build-origin.mjs`; a test run builds it once for all processes of a checkout. */
export const builtFile = (file: string): string =>
  path.join(process.env['GRAFT_BUILT'] ?? path.join(ROOT, 'dist'), file);

/** Whether origin and edge run from their sources. */
export const fromSources = (): boolean =>
  process.env['GRAFT_BUILT'] === undefined && existsSync(path.join(ROOT, 'gpu-origin'));

/**
 * A checkout runs the origin's sources with tsx; a package runs the output of `bin/build-origin.mjs`.
 * @returns arguments for Node, for any working folder.
 * @throws CliError when this package has no origin.
 */
export function originProgram(entry: OriginProgram): string[] {
  if (fromSources()) {
    const tsx = createRequire(path.join(ROOT, 'package.json')).resolve('tsx');
    return ['--import', pathToFileURL(tsx).href, path.join(ROOT, 'gpu-origin', `${entry}.ts`)];
  }
  const file = builtFile(`origin/${entry}.mjs`);
  if (existsSync(file)) return [file];
  const stack = `${STACK_PACKAGE}@${packageJson.version}`;
  throw new CliError({
    message:
      `This needs the origin and the edge, which are a separate package: run \`npx ${stack} …\`, or ` +
      `install it with \`npm install ${stack}\`.`,
    exitCode: EXIT.usage,
    code: 'stack_missing',
  });
}

/** Packages that `bin/pack.mjs` builds from this tree. */
const STACK_PACKAGE = 'graft-lora-origin';

/** Between SIGTERM and SIGKILL: long enough to end running streams. */
const STOP_MS = 5_000;
/** Lines of the origin's log that are shown when it does not start. */
const LAST_LINES = 5;

/** `GRAFT_*` variables that an origin may have: where it keeps files, and the key of vLLM behind it. */
const ORIGINS_OWN: ReadonlySet<string> = new Set(['GRAFT_CACHE', 'GRAFT_ENGINE_KEY']);

/**
 * Secrets that an origin must not have: if it were taken over, they would open the edge, the registry and the
 * account.
 * @returns the environment without them.
 */
export const originEnvironment = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(
    Object.entries(env).filter(
      ([name]) => ORIGINS_OWN.has(name) || !/^(GRAFT|CLOUDFLARE|CF|WRANGLER)_/i.test(name),
    ),
  );

/** Node flags that end a child with an `ipc` channel when we are gone, in whatever way. */
export const endsWithUs = (): string[] => [
  '--import',
  pathToFileURL(path.join(ROOT, 'cli/local/end-with-parent.mjs')).href,
];

/** JSON lines on the origin's stdout. Unknown events are ignored. */
const OriginEvent = z.looseObject({ event: z.string() });
export type OriginEvent = z.infer<typeof OriginEvent>;

export interface OriginProcess {
  readonly pid: number;
  /** Its report of being ready. */
  readonly ready: OriginEvent;
  /** Resolves with a sentence when it ends unexpectedly. */
  readonly failed: Promise<string>;
  stop(): Promise<void>;
}

/**
 * Starts the origin and waits until it is ready.
 * @param entry another of its programs, which reports when it is ready. @param failure what failed, if it ends
 * before.
 * @param args its flags. @param env added to ours, except what {@link originEnvironment} removes.
 * @param onEvent called for every event line before and after `ready`.
 * @throws CliError with the last lines of its log when it ends before.
 */
export async function startOrigin(params: {
  entry?: OriginProgram;
  failure?: string;
  args: readonly string[];
  env: Record<string, string>;
  onEvent?: (event: OriginEvent) => void;
  onLog?: (line: string) => void;
  signal?: AbortSignal;
}): Promise<OriginProcess> {
  const { entry = 'main', failure = 'The origin did not start' } = params;
  const program = originProgram(entry);
  const child = spawn(process.execPath, [...endsWithUs(), ...program, ...params.args], {
    cwd: ROOT,
    env: { ...originEnvironment(process.env), ...params.env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // A process group of its own: Ctrl-C reaches only us, and we end it in order.
    detached: true,
  });
  const exited = once(child, 'exit').catch(() => undefined);
  const log: string[] = [];
  const hear = (line: string) => {
    log.push(line);
    if (log.length > LAST_LINES) log.shift();
    params.onLog?.(line);
  };
  createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', hear);

  let stopping = false;
  const stop = async () => {
    stopping = true;
    await stopChild(child, exited);
  };
  const ready = new Promise<OriginEvent>((resolve, reject) => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      const event = parseEvent(line);
      if (event === null) return hear(line);
      params.onEvent?.(event);
      if (event.event === 'ready') resolve(event);
    });
    child.once('error', (error) => reject(originFailed(failure, error.message, log)));
    child.once('exit', (code, signal) =>
      reject(originFailed(failure, `it ended with ${signal ?? `code ${code}`}`, log)),
    );
    params.signal?.addEventListener('abort', () => reject(params.signal?.reason), { once: true });
  });
  let first: OriginEvent;
  try {
    first = await ready;
  } catch (error) {
    await stop();
    throw error;
  }
  const failed = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      if (!stopping) resolve(`the origin ended with ${signal ?? `code ${code}`}: ${log.join(' | ')}`);
    });
  });
  return { pid: child.pid as number, ready: first, failed, stop };
}

function packageRoot(folder: string): string {
  return existsSync(path.join(folder, 'package.json')) ? folder : packageRoot(path.dirname(folder));
}

async function stopChild(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await exited;
  clearTimeout(timer);
}

/** @returns null when the line is no event. */
export function parseEvent(line: string): OriginEvent | null {
  if (!line.startsWith('{')) return null;
  try {
    return OriginEvent.parse(JSON.parse(line));
  } catch {
    return null;
  }
}

const originFailed = (failure: string, reason: string, log: readonly string[]): CliError =>
  new CliError({
    message: `${failure}: ${reason}.${log.length > 0 ? `\n${log.join('\n')}` : ''}`,
    code: 'origin_failed',
  });

/**
 * Shows `{"event":"progress","what":"…","percent":…}` lines of the origin, such as graph building: a bar for
 * each stage on a terminal, and one line when it is done. The provider is a line too.
 */
export function originProgress(output: Output): { hear(event: OriginEvent): void; end(): void } {
  let stage: { what: string; bar: Progress } | null = null;
  const end = () => {
    stage?.bar.end(stage.what);
    stage = null;
  };
  return {
    hear({ event, what, percent, message }) {
      if (event !== 'progress' || what !== stage?.what) end();
      if (event === 'provider' && typeof message === 'string') output.note(message);
      if (event !== 'progress' || typeof what !== 'string') return;
      stage ??= { what, bar: output.progress(what, 'percent') };
      if (typeof percent === 'number') stage.bar.update(percent, 100);
    },
    /** Also if the origin ended within a stage: the next line would be appended to the bar. */
    end,
  };
}
