import path from 'node:path';
import { defineConfig } from 'vite';

/** `npm run build:page`: the dashboard, as files that the worker serves under /dashboard. */
export default defineConfig({
  root: path.join(import.meta.dirname, 'dashboard'),
  base: '/dashboard/',
  publicDir: false,
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
