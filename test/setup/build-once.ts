/** Builds origin and edge once a run, as a package carries them; else each process compiles a checkout's sources. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import path from 'node:path';
import { buildOrigin } from '../../bin/build-origin.mjs';

export default async function (): Promise<(() => Promise<void>) | undefined> {
  // Another project of the run has built them, or the run that this one is part of.
  if (process.env['GRAFT_BUILT'] !== undefined) return undefined;
  // Within the checkout, where what they import is found.
  const dist = path.join(import.meta.dirname, '../../dist');
  await mkdir(dist, { recursive: true });
  const folder = await mkdtemp(path.join(dist, 'test-'));
  await buildOrigin(folder);
  process.env['GRAFT_BUILT'] = folder;
  return () => rm(folder, { recursive: true, force: true });
}
