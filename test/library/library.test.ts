import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { transform } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as source from '../../adapters/index.ts';
import {
  buildPackage,
  bundleWithPackage,
  LIBRARY_DEPENDENCIES,
  ROOT,
  run,
  TSC,
  type BuiltPackage,
} from './build-package.ts';
import { EXAMPLE_FILES } from './example-files.ts';
import { runScenario } from './scenario.ts';

const textOf = (file: string): Promise<string> => readFile(path.join(ROOT, file), 'utf8');

let built: BuiltPackage | undefined;
beforeAll(async () => {
  built = await buildPackage();
});
afterAll(() => built?.remove());

const node = (...args: string[]) => run(process.execPath, args, { cwd: built!.folder });

describe('graft-lora/adapters, installed', () => {
  it('runs the example of docs/library.md in plain Node', async () => {
    const example = await textOf('examples/inspect-adapter.mjs');
    const blocks = [...(await textOf('docs/library.md')).matchAll(/^```js\n([^]*?)^```$/gm)];
    expect(blocks.map(([, code]) => code)).toContain(example);
    await writeFile(path.join(built!.folder, 'inspect.mjs'), example);
    const { stdout, stderr } = await node('inspect.mjs', path.join(ROOT, 'examples/adapters/intent-v1'));
    expect(stderr).toBe('');
    expect(stdout).toBe(
      [
        'peft adapter for HuggingFaceTB/SmolLM2-135M-Instruct: 460800 parameters',
        'self_attn.q_proj: 30 layers, rank 8',
        'self_attn.v_proj: 30 layers, rank 8',
        '',
      ].join('\n'),
    );
    expect(await textOf('docs/library.md')).toContain('self_attn.v_proj: 30 layers, rank 8');
  });

  it('exports every function that docs/library.md names in its table', async () => {
    const cells = [...(await textOf('docs/library.md')).matchAll(/^\| (`.*?`) +\|/gm)];
    const names = cells.flatMap(([, cell]) => [...cell!.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
    expect(names.length).toBeGreaterThan(10);
    expect(names.filter((name) => !(name in source))).toEqual([]);
  });

  it('packs, reads, sums and compares as the sources do', async () => {
    const { code } = await transform(await textOf('test/library/scenario.ts'), { loader: 'ts' });
    await writeFile(path.join(built!.folder, 'scenario.mjs'), code);
    for (const name of Object.keys(EXAMPLE_FILES))
      await cp(path.join(ROOT, 'examples/adapters', name), path.join(built!.folder, name), {
        recursive: true,
      });
    await writeFile(
      path.join(built!.folder, 'run.mjs'),
      `import { readFileSync } from 'node:fs';
       import * as library from 'graft-lora/adapters';
       import { runScenario } from './scenario.mjs';
       const files = (name) => ({
         weights: new Uint8Array(readFileSync(name + '/adapter_model.safetensors')),
         configJson: readFileSync(name + '/adapter_config.json', 'utf8'),
       });
       const report = await runScenario(library, { 'dr-lee': files('dr-lee'), 'intent-v1': files('intent-v1') });
       console.log(JSON.stringify(report));`,
    );
    const report: unknown = JSON.parse((await node('run.mjs')).stdout);
    expect(report).toEqual(await runScenario(source, EXAMPLE_FILES));
    expect(report).toMatchObject({ refusal: 'truncated_file' });
  });

  it('has types, without the sources', async () => {
    await writeFile(
      path.join(built!.folder, 'use.mts'),
      `import { readAdapter, type LoraModule, type ReadAdapter } from 'graft-lora/adapters';
       import { chainId, type BaseInfo } from 'graft-lora/protocol';
       const read: ReadAdapter = readAdapter({ weights: new Uint8Array(8), configJson: null });
       export const modules: readonly LoraModule[] = read.modules;
       export const id: Promise<string> = chainId([]);
       export const base: BaseInfo['id'] = 'x';
       // @ts-expect-error types that were not found would be any, and allow this.
       readAdapter({ weights: 'text', configJson: null });
       // @ts-expect-error likewise.
       export const wrong: BaseInfo['id'] = 1;`,
    );
    const flags = '--noEmit --strict --skipLibCheck --target ES2022 --lib ES2023,DOM --module NodeNext';
    const complaints = await node(TSC, ...flags.split(' '), 'use.mts').then(
      () => '',
      (error: unknown) => (error as { stdout: string }).stdout,
    );
    expect(complaints).toBe('');
  });

  it('loads nothing but its dependencies', async () => {
    const { metafile } = await bundleWithPackage(built!, `export * from 'graft-lora/adapters';`);
    const outside = Object.keys(metafile.inputs).filter(
      (file) => file !== 'entry.ts' && !file.startsWith('node_modules/graft-lora/dist/'),
    );
    const packages = outside.map((file) => /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? file);
    expect([...new Set(packages)].sort()).toEqual([...LIBRARY_DEPENDENCIES].sort());
  });
});
