#!/usr/bin/env node
import { existsSync, readFileSync } from 'node:fs';
import module from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = (name) => fileURLToPath(new URL(`../${name}`, import.meta.url));
const manifest = (file) => JSON.parse(readFileSync(file, 'utf8'));

/**
 * Ends a Node that is too old, before anything but Node's own modules is loaded: a dependency's new syntax would end it
 * with a SyntaxError that tells nobody what to do.
 */
function needNode() {
  const [major, minor] = /\d+\.\d+/
    .exec(manifest(here('package.json')).engines.node)[0]
    .split('.')
    .map(Number);
  const [ours, minors] = process.versions.node.split('.').map(Number);
  if (ours > major || (ours === major && minors >= minor)) return;
  console.error(
    `error: graft needs Node ${major}.${minor} or later; this is Node ${process.versions.node}. ` +
      'Install a newer one from https://nodejs.org, or with your version manager (`nvm install 22`).',
  );
  process.exit(1);
}

/** The package with origin and edge, of this version, where it is installed beside this one, which has neither. */
function withStack() {
  if (existsSync(here('gpu-origin')) || existsSync(here('dist/origin'))) return null;
  try {
    const { resolve } = module.createRequire(import.meta.url);
    const stack = resolve('graft-lora-origin/package.json');
    if (manifest(stack).version !== manifest(here('package.json')).version) return null;
    return new URL('bin/graft.mjs', pathToFileURL(stack)).href;
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

needNode();
// Node 22.8 and later keep compiled code between runs; Node 20 has no such call.
module.enableCompileCache?.();
process.setSourceMapsEnabled(true);
await import(withStack() ?? (await entry()));
