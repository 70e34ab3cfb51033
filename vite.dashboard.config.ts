import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { defineConfig, type Plugin } from 'vite';
import { buildBrowser } from './bin/build-browser.mjs';

/**
 * graft/browser beside the page, as applications have it: the view that runs a base loads it when it is wanted. The
 * folder is named by what is in it, so that browsers may keep the runtime's 14 MB.
 */
function withBrowserLibrary(): Plugin {
  const files = new Map<string, Uint8Array>();
  let folder = '';
  return {
    name: 'graft-browser',
    apply: 'build',
    async config() {
      const built = await mkdtemp(path.join(os.tmpdir(), 'graft-browser-'));
      try {
        await buildBrowser(built, { page: true });
        const names = (await readdir(built, { recursive: true, withFileTypes: true }))
          .filter((entry) => entry.isFile())
          .map((entry) => path.relative(built, path.join(entry.parentPath, entry.name)))
          .sort();
        const hash = createHash('sha256');
        for (const name of names) {
          const bytes = await readFile(path.join(built, name));
          hash.update(name).update(bytes);
          files.set(name.split(path.sep).join('/'), bytes);
        }
        folder = `browser/${hash.digest('hex').slice(0, 16)}`;
      } finally {
        await rm(built, { recursive: true, force: true });
      }
      return { define: { GRAFT_BROWSER: JSON.stringify(`/dashboard/${folder}/`) } };
    },
    generateBundle() {
      for (const [name, source] of files)
        this.emitFile({ type: 'asset', fileName: `${folder}/${name}`, source });
    },
  };
}

/** `npm run build:page`: the dashboard, as files that the worker serves under /dashboard. */
export default defineConfig({
  root: path.join(import.meta.dirname, 'dashboard'),
  base: '/dashboard/',
  publicDir: false,
  plugins: [withBrowserLibrary()],
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    outDir: '../dist/page/dashboard',
    emptyOutDir: true,
    target: 'es2022',
    // The policy of the page allows no inline scripts.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    reportCompressedSize: true,
  },
});
