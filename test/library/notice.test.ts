/** NOTICE names what is compiled into dist/, with its copyright and licence. */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build, type Metafile } from 'esbuild';
import { afterAll, expect, it } from 'vitest';
import { z } from 'zod';
import { buildBrowser } from '../../bin/build-browser.mjs';
import { buildOrigin } from '../../bin/build-origin.mjs';
import { ROOT } from './build-package.ts';

const folder = await mkdtemp(path.join(tmpdir(), 'graft-notice-'));
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Packages of which something went into a build's files. */
const compiledIn = ({ outputs }: Metafile): string[] =>
  Object.values(outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([file, { bytesInOutput }]) => {
      const name = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1];
      return name === undefined || bytesInOutput === 0 ? [] : [name];
    }),
  );

/** As Vite builds it, for what it is made of alone. */
async function page(): Promise<Metafile> {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: ['dashboard/main.tsx'],
    outdir: folder,
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    jsx: 'automatic',
    jsxImportSource: 'preact',
    logLevel: 'error',
  });
  return metafile;
}

const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
const Package = z.object({ license: z.string() });

it('names everything that the packages carry, under its licence and its copyright', async () => {
  const { origin, worker } = await buildOrigin(folder);
  const browser = await buildBrowser(path.join(folder, 'browser'), { page: true, runtime: false });
  const names = new Set([origin, worker, browser, await page()].flatMap(compiledIn));
  // Copied as files.
  names.add('onnxruntime-web');
  expect(names.size).toBeGreaterThan(5);
  const notice = read('NOTICE');
  for (const name of names) {
    const entry = notice.split('\n\n').find((part) => part.includes(`${name} in dist/`)) ?? '';
    const { license } = Package.parse(JSON.parse(read(`node_modules/${name}/package.json`)));
    expect(entry, `NOTICE has no entry of ${name}`).toContain(`Licence: ${license}`);
    let text = '';
    try {
      text = read(`node_modules/${name}/LICENSE`);
    } catch {
      // onnxruntime-web brings none.
    }
    const copyright = /^\s*(Copyright \(c\) .+?)\s*$/m.exec(text)?.[1];
    if (copyright !== undefined) expect(entry).toContain(copyright);
  }
});
