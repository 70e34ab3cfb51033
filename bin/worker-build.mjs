// How the edge becomes one module, as `wrangler deploy` bundles it: for `graft dev` and for packages.
import path from 'node:path';

/** @param {string} root the checkout. @returns {import('esbuild').BuildOptions} */
export const workerBuild = (root) => ({
  entryPoints: [path.join(root, 'worker/index.ts')],
  bundle: true,
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  mainFields: ['module', 'main'],
  conditions: ['workerd', 'worker', 'browser'],
  external: ['cloudflare:*', 'node:*'],
});
