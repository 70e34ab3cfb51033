/** `npm run interop -- package`: the packed package in an empty folder, its scripts allowed, and `graft dev` there. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LARGEST_LOG = 64 * 1024 * 1024;
/** The base is fetched and prepared in it, where nothing is in GRAFT_CACHE yet. */
const START_MS = 10 * 60 * 1000;

const Local = z.object({ url: z.string(), key: z.string() });
const Answer = z.object({ choices: z.array(z.object({ message: z.object({ content: z.string() }) })) });

/** @returns an exit code; everything that it finds is printed. Needs npm's registry. */
export async function runPackage(): Promise<number> {
  const folder = await mkdtemp(path.join(tmpdir(), 'graft-package-'));
  try {
    await run('npm', ['run', 'build'], { cwd: ROOT, maxBuffer: LARGEST_LOG });
    const packed = await run('npm', ['pack', '--json', '--pack-destination', folder], {
      cwd: ROOT,
      maxBuffer: LARGEST_LOG,
    });
    const [{ filename, size }] = z
      .tuple([z.object({ filename: z.string(), size: z.number() })])
      .parse(JSON.parse(packed.stdout));
    console.log(`packed ${filename}, ${(size / 1e6).toFixed(1)} MB`);
    await writeFile(path.join(folder, 'package.json'), '{"private":true}');
    // The checkout's .npmrc does not hold here, but variables that npm set for this script do.
    const env = Object.fromEntries(
      Object.entries(process.env).filter(
        ([name]) => !/^(npm_config_ignore_scripts|GRAFT_(?!CACHE))/i.test(name),
      ),
    );
    const install = ['install', '--ignore-scripts=false', path.join(folder, filename)];
    await run('npm', install, { cwd: folder, env, maxBuffer: LARGEST_LOG });
    const tree = await run('du', ['-sm', 'node_modules'], { cwd: folder });
    console.log(`installed, ${tree.stdout.split('\t')[0]} MB, its scripts allowed`);
    return await serve(folder, env);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function serve(folder: string, env: NodeJS.ProcessEnv): Promise<number> {
  const graft = spawn('npx', ['graft', 'dev', '--port', '0', '--origin-port', '0'], {
    ...{ cwd: folder, env, stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  }) as ChildProcess & { stdout: NodeJS.ReadableStream; stderr: NodeJS.ReadableStream };
  const ended = once(graft, 'exit');
  try {
    const ready = new Promise<void>((resolve) => {
      for (const stream of [graft.stdout, graft.stderr])
        createInterface({ input: stream }).on('line', (line) => {
          if (/^(provider|graft is ready)/.test(line)) console.log(line);
          if (line.startsWith('graft is ready')) resolve();
        });
    });
    const late = AbortSignal.timeout(START_MS);
    const first = await Promise.race([ready, ended, once(late, 'abort').then(() => 'late')]);
    if (first !== undefined) throw new Error(`graft dev did not start: ${String(first)}`);
    const local = Local.parse(JSON.parse(await readFile(path.join(folder, '.graft/local.json'), 'utf8')));
    const response = await fetch(`${local.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${local.key}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        ...{ model: 'medicine/cardiology', temperature: 0, max_tokens: 24 },
        messages: [{ role: 'user', content: 'I have a dry cough.' }],
      }),
    });
    const answer = Answer.parse(await response.json()).choices[0]?.message.content ?? '';
    console.log(`medicine/cardiology: ${JSON.stringify(answer)}`);
    // What the adapter was trained to begin with.
    return answer.startsWith('Specialty:') ? 0 : 1;
  } finally {
    process.kill(-(graft.pid as number), 'SIGINT');
    await ended;
  }
}
