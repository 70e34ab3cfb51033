/** What `npm ci` brings, and what of it may run: nothing at all. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';

const read = (file: string): string => readFileSync(path.join(import.meta.dirname, '../..', file), 'utf8');

const Versions = z.record(z.string(), z.string()).default({});
const Package = z.object({ dependencies: Versions, devDependencies: Versions });
const Lock = z.object({
  packages: z.record(
    z.string(),
    z.looseObject({
      integrity: z.string().optional(),
      hasInstallScript: z.boolean().optional(),
      link: z.boolean().optional(),
    }),
  ),
});
const declared = Package.parse(JSON.parse(read('package.json')));
const { packages } = Lock.parse(JSON.parse(read('package-lock.json')));

/** They would run a script at install, and work without: esbuild, koffi, workerd and ONNX Runtime bring their binaries as packages or inside. */
const WITH_SCRIPTS = ['esbuild', 'koffi', 'onnxruntime-node', 'sharp', 'workerd'];

it('nothing that is installed runs a script, and no other package would like to', () => {
  expect(read('.npmrc').split('\n')).toContain('ignore-scripts=true');
  const wanting = Object.entries(packages)
    .filter(([, { hasInstallScript }]) => hasInstallScript)
    .map(([folder]) => folder.split('node_modules/').at(-1));
  expect([...new Set(wanting)].sort()).toEqual(WITH_SCRIPTS);
});

it('versions are exact, and those of the lock', () => {
  for (const [name, version] of Object.entries({ ...declared.dependencies, ...declared.devDependencies })) {
    expect([name, version]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+$/)]);
    expect([name, packages[`node_modules/${name}`]?.['version']]).toEqual([name, version]);
  }
  expect(packages['']).toMatchObject(declared);
});

it('every package is known by its hash', () => {
  const rest = Object.entries(packages).filter(([folder]) => folder !== '');
  expect(rest.length).toBeGreaterThan(100);
  for (const [folder, { integrity, link }] of rest)
    expect([folder, link, integrity]).toEqual([folder, undefined, expect.stringMatching(/^sha512-/)]);
});
