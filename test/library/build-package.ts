/** The package as a stranger installs it, in a folder of its own: built files, and only the dependencies they need. */
import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build, type Metafile } from 'esbuild';

export const run = promisify(execFile);
export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
export const TSC = path.join(ROOT, 'node_modules/typescript/bin/tsc');

/** All that the library may load besides itself. */
export const LIBRARY_DEPENDENCIES: readonly string[] = ['ml-matrix', 'zod'];

export interface BuiltPackage {
  /** Has `node_modules/graft-lora` and its dependencies, nothing else. */
  readonly folder: string;
  remove(): Promise<void>;
}

/** `npm run build` into a temporary folder, never into `dist`. */
export async function buildPackage(): Promise<BuiltPackage> {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-library-'));
  const modules = path.join(folder, 'node_modules');
  const dist = path.join(modules, 'graft-lora/dist');
  await mkdir(dist, { recursive: true });
  await run(process.execPath, [TSC, '-p', 'tsconfig.library.json', '--outDir', dist], { cwd: ROOT }).catch(
    (error: unknown) => {
      throw new Error(`The library does not build:\n${(error as { stdout: string }).stdout}`);
    },
  );
  await cp(path.join(ROOT, 'package.json'), path.join(modules, 'graft-lora/package.json'));
  for (const name of LIBRARY_DEPENDENCIES)
    await symlink(path.join(ROOT, 'node_modules', name), path.join(modules, name), 'dir');
  return { folder, remove: () => rm(folder, { recursive: true, force: true }) };
}

/** Bundles `code`, which imports the package by its name, for runtimes without Node. */
export async function bundleWithPackage(
  { folder }: BuiltPackage,
  code: string,
): Promise<{ text: string; metafile: Metafile }> {
  const result = await build({
    stdin: { contents: code, resolveDir: folder, sourcefile: 'entry.ts', loader: 'ts' },
    absWorkingDir: folder,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    target: 'es2022',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    conditions: ['import'],
    logLevel: 'silent',
  });
  return { text: result.outputFiles[0]?.text ?? '', metafile: result.metafile };
}
