/** The clients' packages, each client's in a folder of its own: some need versions of one package that exclude each other. */
import { spawnSync } from 'node:child_process';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Client } from './clients.ts';

/** How to run a client's script. */
export interface Installed {
  readonly executable: string;
  readonly args: readonly string[];
}

const source = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

function runOrThrow(command: string, args: readonly string[], cwd: string): void {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stdout + stderr}`);
}

/** Installs what is not there yet. @throws Error with what pip or npm said. */
export async function installPackages(
  client: Client,
  cache: string,
): Promise<{ executable: string; folder: string }> {
  const folder = path.join(cache, `${client.runtime}-${client.name}`);
  await mkdir(folder, { recursive: true });
  const stamp = path.join(folder, 'installed.json');
  const wanted = JSON.stringify(client.packages);
  const isInstalled = (await readFile(stamp, 'utf8').catch(() => '')) === wanted;
  const isPython = client.runtime === 'python';
  const executable = isPython ? path.join(folder, 'venv/bin/python') : process.execPath;
  if (isInstalled) return { executable, folder };
  if (isPython) {
    runOrThrow(process.env['PYTHON'] ?? 'python3', ['-m', 'venv', '--clear', 'venv'], folder);
    const quiet = ['--quiet', '--disable-pip-version-check', '--only-binary', ':all:'];
    runOrThrow(executable, ['-m', 'pip', 'install', ...quiet, ...client.packages], folder);
  } else {
    await writeFile(path.join(folder, 'package.json'), '{"private": true}');
    runOrThrow('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', ...client.packages], folder);
  }
  await writeFile(stamp, wanted);
  return { executable, folder };
}

/** The same, with the client's script. */
export async function installClient(client: Client, cache: string): Promise<Installed> {
  const { executable, folder } = await installPackages(client, cache);
  if (client.runtime === 'python') return { executable, args: [source(`python/check_${client.name}.py`)] };
  // Node looks for packages beside the script, and would find this repository's.
  const script = `check-${client.name}.mjs`;
  for (const file of [script, 'checks.mjs']) await copyFile(source(`node/${file}`), path.join(folder, file));
  return { executable, args: [path.join(folder, script)] };
}
