/** bin/graft.mjs under a Node that says it is another version. */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import packageJson from '../../package.json' with { type: 'json' };

const GRAFT = fileURLToPath(new URL('../../bin/graft.mjs', import.meta.url));
const { engines } = packageJson;

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'graft-node-'));
  cpSync(GRAFT, path.join(folder, 'bin/graft.mjs'));
  // As in a package, and nothing else: whatever is imported beyond Node's own modules is missed.
  writeFileSync(path.join(folder, 'package.json'), JSON.stringify({ type: 'module', engines }));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const runUnder = (version: string) => {
  const fake = `Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '${version}' } })`;
  const args = ['--import', `data:text/javascript,${encodeURIComponent(fake)}`, 'bin/graft.mjs', '--version'];
  return spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
};

it.each(['18.20.8', '20.18.3', '16.0.0'])('refuses Node %s before it imports anything', (version) => {
  const { status, stdout, stderr } = runUnder(version);
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toBe(
    `error: graft needs Node ${engines.node.replace('>=', '')} or later; this is Node ${version}. ` +
      'Install a newer one from https://nodejs.org, or with your version manager (`nvm install 22`).\n',
  );
});

it.each(['20.19.0', '22.0.0', '24.1.0'])('goes on under Node %s', (version) => {
  const { status, stderr } = runUnder(version);
  expect(status).toBe(1);
  expect(stderr).toMatch(/Cannot find module .*dist[/\\]cli[/\\]main\.js/);
});
