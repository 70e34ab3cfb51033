/** Hosts that are no part of this process: another runtime of JavaScript, and a page in Chromium. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { buildBrowser } from '../../../bin/build-browser.mjs';
import { exportWebBase } from '../../../gpu-origin/export-web-base.ts';
import { startChromium } from '../../browser/chromium.ts';
import { openDesk } from './desk.ts';
import type { Desk, PageStart, Rates } from './part.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** Of a page's steps: what the other hosts have on two cores. */
const THREADS = 2;
const PAGE = `<!doctype html><title>hosts</title><script>
  const takePart = (start) => new Promise((resolve) => {
    const worker = new Worker('/page.js', { type: 'module' });
    worker.addEventListener('message', ({ data }) => resolve(data));
    worker.addEventListener('error', ({ message }) => resolve({ error: message }));
    worker.postMessage(start);
  });
</script>`;

/** @throws Error when it ends without having been through. */
export async function runElsewhere(
  desk: Desk,
  [program, ...args]: readonly [string, ...string[]],
  told: readonly string[],
): Promise<Rates> {
  const open = await openDesk(desk, ROOT);
  try {
    const child = spawn(program, [...args, open.address, ...told], { cwd: ROOT, stdio: 'inherit' });
    const [code] = (await once(child, 'exit')) as [number | null];
    if (code !== 0 || open.rates === null) throw new Error(`${program} ended with ${code}`);
    return open.rates;
  } finally {
    await open.close();
  }
}

/** @param params.software the GPU is drawn by the processor. */
export async function runInPage(
  desk: Desk,
  params: Pick<PageStart, 'device' | 'precision'> & {
    basePath: string;
    baseId: string;
    cache: string;
    software: boolean;
  },
): Promise<Rates> {
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-hosts-'));
  const { basePath, baseId, cache, device, precision, software } = params;
  await buildBrowser(folder);
  await build({
    absWorkingDir: ROOT,
    entryPoints: { page: 'test/interop/hosts/page.ts' },
    ...{ outdir: folder, bundle: true, format: 'esm', platform: 'browser', target: 'es2022' },
  });
  writeFileSync(path.join(folder, 'index.html'), PAGE);
  await exportWebBase({
    ...{ basePath, baseId, cacheDir: cache, folder: path.join(folder, 'base') },
    onProgress: () => {},
  });
  const open = await openDesk(desk, folder);
  const browser = await startChromium({ webgpu: software });
  try {
    const page = await browser.newPage();
    await page.goto(open.address);
    const start: PageStart = { address: open.address, device, precision, threads: THREADS };
    const said = await page.evaluate<{ runtime?: string; error?: string }>(
      `takePart(${JSON.stringify(start)})`,
    );
    if (said.runtime === undefined || open.rates === null) throw new Error(said.error);
    console.log(`Chromium ${browser.version()}: ${said.runtime}`);
    return open.rates;
  } finally {
    await browser.close();
    await open.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
