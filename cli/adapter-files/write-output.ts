/**
 * Encodes modules in the requested format and writes them: completely or not at all, and never over existing
 * files unless forced.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { ArgsDef } from 'citty';
import { CliError, EXIT } from '../cli-error.ts';
import {
  type AdapterContent,
  checkValues,
  encodeCanonical,
  writeGgufAdapter,
  writePeftAdapter,
} from '../../adapters/index.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import { chooseBaseId } from './adapter-base.ts';
import type { ComposedBase, Sum } from './compose-members.ts';
import { type BaseSearch, lookForBase } from './load-adapter.ts';
import { asRefusal } from './read-input.ts';

/** Flags of every command that writes an adapter. */
export const outputFlags = {
  out: {
    type: 'string',
    alias: 'o',
    description: 'Where to write: a folder for PEFT, otherwise a file',
    valueHint: 'path',
    required: true,
  },
  force: { type: 'boolean', description: 'Overwrite existing files' },
} as const satisfies ArgsDef;

/** One file, or the files of a folder by name. */
export type OutputContent = Uint8Array | ReadonlyMap<string, Uint8Array | string>;

/** @returns the files that {@link writeOutput} writes, with their sizes. */
export const outputFiles = (out: string, content: OutputContent): { path: string; bytes: number }[] =>
  content instanceof Uint8Array
    ? [{ path: out, bytes: content.length }]
    : [...content].map(([name, data]) => ({ path: path.join(out, name), bytes: Buffer.byteLength(data) }));

const unusable = (code: string, message: string): CliError =>
  new CliError({ message, exitCode: EXIT.usage, code });

/**
 * Called before the work starts, so that nobody waits for a result that cannot be stored.
 * @param kind what will be written at `out`.
 * @throws CliError `output_exists` or `output_invalid` (usage).
 */
export async function checkOutput(out: string, kind: 'file' | 'folder', force: boolean): Promise<void> {
  const parent = path.dirname(path.resolve(out));
  if (!(await isFolder(parent)))
    throw unusable('output_invalid', `-o ${out}: the folder ${parent} does not exist. Create it first.`);
  const entry = await stat(out).catch(() => null);
  if (entry === null) return;
  if (entry.isDirectory() !== (kind === 'folder'))
    throw unusable(
      'output_invalid',
      `-o ${out} is ${entry.isDirectory() ? 'a folder' : 'not a folder'}. Name a ${kind}.`,
    );
  if (force || (kind === 'folder' && (await readdir(out)).length === 0)) return;
  throw unusable('output_exists', `${out} exists. Choose another path, or overwrite it with --force.`);
}

/**
 * @param out checked by {@link checkOutput}. Other files of an existing folder stay.
 * @throws CliError `output_invalid` (error) when the disk refuses.
 */
export async function writeOutput(out: string, content: OutputContent): Promise<void> {
  try {
    if (content instanceof Uint8Array)
      await replace(out, (draft) => writeFile(draft, content, { flag: 'wx' }));
    else if (await isFolder(out))
      for (const [name, data] of content)
        await replace(path.join(out, name), (draft) => writeFile(draft, data, { flag: 'wx' }));
    else
      await replace(out, async (draft) => {
        await mkdir(draft);
        for (const [name, data] of content) await writeFile(path.join(draft, name), data);
      });
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new CliError({ message: `${out} cannot be written (${reason}).`, code: 'output_invalid' });
  }
}

/** In the same folder, so that the rename is atomic. */
async function replace(target: string, write: (draft: string) => Promise<void>): Promise<void> {
  const draft = `${target.replace(/[/\\]+$/, '')}.${randomBytes(4).toString('hex')}`;
  try {
    await write(draft);
    await rename(draft, target);
  } catch (error) {
    await rm(draft, { recursive: true, force: true });
    throw error;
  }
}

const isFolder = (entry: string): Promise<boolean> =>
  stat(entry).then(
    (found) => found.isDirectory(),
    () => false,
  );

export interface Encoded {
  readonly content: OutputContent;
  /** Of a canonical file; null for other formats. */
  readonly digest: string | null;
}

/** @throws CliError when the values cannot be packed. */
async function encodeAsCanonical(
  params: AdapterContent & { baseId: string; parent: string | null; where: string },
): Promise<Encoded> {
  const { modules, invocation, classifier, baseId, parent, where } = params;
  const [problem] = checkValues(params);
  if (problem !== undefined) throw asRefusal(problem, where);
  const content = encodeCanonical({ base: baseId, parent, modules, invocation, classifier });
  return { content, digest: await sha256Hex(content) };
}

/** The files of a PEFT folder. @param baseModel for `base_model_name_or_path`. */
export function encodeAsPeft(params: AdapterContent & { baseModel: string | null; where: string }): Encoded {
  try {
    const { configJson, safetensors, modelConfigJson } = writePeftAdapter(params);
    const content = new Map<string, Uint8Array | string>([
      ['adapter_config.json', configJson],
      ['adapter_model.safetensors', safetensors],
    ]);
    if (modelConfigJson !== null) content.set('config.json', modelConfigJson);
    return { content, digest: null };
  } catch (error) {
    throw asRefusal(error, params.where);
  }
}

/**
 * For llama.cpp. The base determines the order of the rows of q and k, and the file's architecture.
 * @throws CliError `base_needed` (usage) when the order matters and the base is unknown.
 */
export async function encodeAsGguf(
  params: AdapterContent & {
    baseModel: string | null;
    baseId: string | null;
    dtype: 'F32' | 'F16';
    where: string;
    search: BaseSearch;
  },
): Promise<Encoded> {
  const { modules, invocation, classifier, baseModel, baseId, dtype, where, search } = params;
  const base = await lookForBase(search, baseId);
  const architecture = base?.architecture ?? null;
  try {
    const content = writeGgufAdapter({
      modules,
      invocation,
      classifier,
      attention: base?.attention ?? null,
      baseModel,
      dtype,
      ...(architecture === null ? {} : { architecture }),
    });
    if (architecture === null)
      search.output.note(
        "warning: the base's architecture is unknown; assuming llama. Set --base to change that.",
      );
    return { content, digest: null };
  } catch (error) {
    throw asRefusal(error, where);
  }
}

/** Writes a sum of adapters in one of the formats. @param where for errors. @throws CliError */
export async function encodeComposed(
  to: 'canonical' | 'peft' | 'gguf',
  { modules, invocation, classifier }: Sum,
  { base, parent }: ComposedBase,
  where: string,
  search: BaseSearch,
): Promise<Encoded & { base: string | null }> {
  const content = { modules, invocation, classifier };
  if (to === 'peft') return { ...encodeAsPeft({ ...content, baseModel: base, where }), base };
  if (to === 'gguf') {
    const params = {
      ...content,
      baseModel: base,
      baseId: base,
      dtype: 'F32',
      where,
      search,
    } as const;
    return { ...(await encodeAsGguf(params)), base };
  }
  const baseId = await chooseBaseId({
    flag: base ?? undefined,
    read: { baseModel: null },
    where,
    env: process.env,
    folder: process.cwd(),
  });
  return { ...(await encodeAsCanonical({ ...content, baseId, parent, where })), base: baseId };
}
