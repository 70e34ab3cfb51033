/** What `npm ci` brings, and what of it may run: nothing at all. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';
import { z } from 'zod';

const read = (file: string): string => readFileSync(path.join(import.meta.dirname, '../..', file), 'utf8');

const Versions = z.record(z.string(), z.string()).default({});
const Package = z.object({
  dependencies: Versions,
  optionalDependencies: Versions,
  devDependencies: Versions,
});
const Lock = z.object({
  packages: z.record(
    z.string(),
    z.looseObject({
      integrity: z.string().optional(),
      hasInstallScript: z.boolean().optional(),
      license: z.string().optional(),
      dev: z.boolean().optional(),
      link: z.boolean().optional(),
    }),
  ),
});
const declared = Package.parse(JSON.parse(read('package.json')));
const { packages } = Lock.parse(JSON.parse(read('package-lock.json')));

/**
 * They run a script at install unless told otherwise, and work without: each brings its program as a package of its own
 * or inside. docs/internals/security.md says what the scripts do; whoever adds one here has read it.
 */
const WITH_SCRIPTS = ['esbuild', 'koffi', 'onnxruntime-node', 'protobufjs', 'sharp', 'workerd'];

/** Of what is installed with graft: those that ask for no more than a notice. */
const PERMISSIVE = ['MIT', 'Apache-2.0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'CC0-1.0'];
/** Others, each looked at: libvips comes with miniflare by sharp, as a library of its own that graft never calls. */
const LOOKED_AT = /^@img\/sharp-/;

const nameOf = (folder: string): string => folder.split('node_modules/').at(-1) as string;

it('nothing that is installed runs a script, and no other package would like to', () => {
  expect(read('.npmrc').split('\n')).toContain('ignore-scripts=true');
  const wanting = Object.entries(packages)
    .filter(([, { hasInstallScript }]) => hasInstallScript)
    .map(([folder]) => nameOf(folder));
  expect([...new Set(wanting)].sort()).toEqual(WITH_SCRIPTS);
  for (const name of WITH_SCRIPTS) expect(read('docs/internals/security.md')).toContain(`\`${name}\``);
});

it('nobody who installs graft gets a licence that was not looked at', () => {
  const odd = Object.entries(packages)
    .filter(([folder, { dev }]) => folder !== '' && dev !== true && !LOOKED_AT.test(nameOf(folder)))
    .filter(([, { license }]) => !PERMISSIVE.some((name) => license?.split(/[() ]+/).includes(name)))
    .map(([folder, { license }]) => `${nameOf(folder)}: ${license}`);
  expect(odd).toEqual([]);
});

it('versions are exact, and those of the lock', () => {
  const { dependencies, optionalDependencies, devDependencies } = declared;
  for (const [name, version] of Object.entries({
    ...dependencies,
    ...optionalDependencies,
    ...devDependencies,
  })) {
    expect([name, version]).toEqual([name, expect.stringMatching(/^\d+\.\d+\.\d+$/)]);
    expect([name, packages[`node_modules/${name}`]?.['version']]).toEqual([name, version]);
  }
  expect(packages['']).toMatchObject(declared);
});

it('both of ONNX Runtime are of one release, whose graphs and raw exports are known', () => {
  const { dependencies, optionalDependencies } = declared;
  const release = packages['node_modules/onnxruntime-web']?.version;
  expect(dependencies['onnxruntime-web']).toBe(release);
  expect(optionalDependencies['onnxruntime-node']).toBe(release);
  expect(packages['node_modules/onnxruntime-node']?.version).toBe(release);
  expect(read('NOTICE')).toMatch(/onnxruntime-web.+onnxruntime-node.+\n.+Microsoft.+\n.+Licence: MIT/);
});

it('every package is known by its hash', () => {
  const rest = Object.entries(packages).filter(([folder]) => folder !== '');
  expect(rest.length).toBeGreaterThan(100);
  for (const [folder, { integrity, link }] of rest)
    expect([folder, link, integrity]).toEqual([folder, undefined, expect.stringMatching(/^sha512-/)]);
});
