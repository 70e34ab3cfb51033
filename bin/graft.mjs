#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** The package with origin and edge, of this version, where it is installed beside this one, which has neither. */
function withStack() {
  if (existsSync(here('gpu-origin')) || existsSync(here('dist/origin'))) return null;
  try {
    const { resolve } = module.createRequire(import.meta.url);
    const manifest = resolve('graft-lora-origin/package.json');
    const versionOf = (file) => JSON.parse(readFileSync(file, 'utf8')).version;
    if (versionOf(manifest) !== versionOf(here('package.json'))) return null;
    return new URL('bin/graft.mjs', pathToFileURL(manifest)).href;
  } catch {
    return null;
  }
}

/** A package carries the command line compiled; a checkout compiles it when its sources have changed. */
async function entry() {
  const compiled = here('dist/cli/main.js');
  if (!existsSync(here('tsconfig.base.json'))) return pathToFileURL(compiled).href;
  const { compiledCli } = await import('./compiled-cli.mjs');
  return pathToFileURL(await compiledCli()).href;
}

// Node 22.8 and later keep compiled code between runs; Node 20 has no such call.
module.enableCompileCache?.();
process.setSourceMapsEnabled(true);
await import(withStack() ?? (await entry()));
