/** `graft base export --web` runs it: a base's file or folder to parts that browsers fetch. Says JSON on stdout. */
import { parseArgs } from 'node:util';
import type { WebBaseManifest } from '../protocol/index.ts';
import { buildGraphs, type Progress } from './model/build-graphs.ts';
import { loadBase } from './model/load-base.ts';
import { makeRotations } from './model/rotation.ts';
import { readTokenizer } from './model/load-tokenizer.ts';
import { writeWebBase } from './model/write-web-base.ts';
import { describeBase } from './runtime/create-runner.ts';
import { progressReporter } from './log.ts';

export interface ExportParams {
  basePath: string;
  baseId?: string | undefined;
  /** Where graphs are built, as origins build theirs. */
  cacheDir: string;
  folder: string;
  onProgress: Progress;
  partBytes?: number;
}

/** @throws BaseModelError | GgufError | TokenizerError with a message for the operator. */
export async function exportWebBase(params: ExportParams): Promise<WebBaseManifest> {
  const { basePath, baseId, cacheDir, onProgress } = params;
  const { base, tokenizerSource } = await loadBase(basePath, baseId);
  try {
    const tokenizer = readTokenizer(tokenizerSource);
    const { context } = base.config;
    // Without a rotation, a few numbers of each row are hundreds of times the others: one scale leaves nothing of these.
    const isEven = makeRotations(base.config).stream !== null;
    const built = await buildGraphs({
      ...{ base, format: 'int8', context, rotate: true, cacheDir, onProgress },
      ...(isEven ? { embedding: 'int8' as const } : {}),
    });
    const info = describeBase(base, { format: 'int8', context, provider: 'web', bits: true });
    return await writeWebBase({ ...params, base, info, built, tokenizer });
  } finally {
    base.close();
  }
}

if (process.argv[1] === import.meta.filename) {
  const note = (text: string): boolean => process.stderr.write(text);
  const tell = (event: string, fields: object): boolean =>
    process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
  const option = { type: 'string' } as const;
  const { values } = parseArgs({ options: { base: option, 'base-id': option, cache: option, out: option } });
  try {
    const { base, parts } = await exportWebBase({
      basePath: values.base ?? '',
      baseId: values['base-id'],
      cacheDir: values.cache ?? '',
      folder: values.out ?? '',
      onProgress: progressReporter({
        stderr: { write: note },
        onPercent: (what, percent) => tell('progress', { what, percent }),
      }),
    });
    const bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    tell('ready', { id: base.id, digest: base.digest, weights: base.weights, parts: parts.length, bytes });
  } catch (error) {
    note(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}
