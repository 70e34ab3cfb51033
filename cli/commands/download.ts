import { readFile } from 'node:fs/promises';
import { adminClient } from '../admin/admin-client.ts';
import { checkComposition, composeMembers, type ComposeMember } from '../adapter-files/compose-members.ts';
import {
  encodeComposed,
  checkOutput,
  outputFiles,
  writeOutput,
  type OutputContent,
} from '../adapter-files/write-output.ts';
import { baseFlag, loadUsableAdapter } from '../adapter-files/load-adapter.ts';
import { facts, fileSize, FORMAT_NAMES } from '../adapter-files/module-table.ts';
import { command } from '../command.ts';
import { fetchVersion, type FetchedVersion } from '../download/fetch-version.ts';
import type { createOutput } from '../output.ts';
import { parseReference } from '../admin/operation-command.ts';

export const downloadCommand = command({
  verb: 'download',
  examples: [
    {
      line: 'graft download alice/notes',
      does: 'the live version, converted to a PEFT folder named notes',
    },
    {
      line: 'graft download alice/notes@2 --as canonical -o notes-2.safetensors',
      does: 'the exact file that was published',
    },
  ],
  args: {
    name: { type: 'positional', description: 'Name or version, such as alice/notes@2', required: true },
    out: {
      type: 'string',
      alias: 'o',
      description: 'Where to write: a folder for PEFT, otherwise a file (default: the end of the name)',
      valueHint: 'path',
    },
    as: {
      type: 'enum',
      options: ['peft', 'gguf', 'canonical'],
      description: 'canonical: the file as published; peft and gguf: float32, with the scale folded in',
      default: 'peft',
    },
    merged: { type: 'boolean', description: 'Include everything it was built on, summed' },
    force: { type: 'boolean', description: 'Overwrite existing files' },
    ...baseFlag,
  },
  async run({ args, output }) {
    const { name, version } = parseReference(args.name);
    const merged = args.merged === true;
    const out = args.out ?? defaultOut(name, args.as);
    await checkOutput(out, args.as === 'peft' ? 'folder' : 'file', args.force === true);
    const client = await adminClient();
    const fetched = await fetchVersion({ client, name, version, chain: merged, output });
    const what = `${fetched.name}@${fetched.version}`;
    const asPublished = args.as === 'canonical' && !merged;
    const made = asPublished
      ? { content: await readFile(fetched.members[0]?.path ?? ''), digest: fetched.digest, parent: null }
      : await encoded(fetched, { to: args.as, merged, base: args.base, output });
    if (made.parent !== null && args.as !== 'canonical')
      output.note(
        `warning: this is only what ${what} adds to the chain below it, which ${FORMAT_NAMES[args.as]} ` +
          'does not record. Use --merged for the sum.',
      );
    if (args.as !== 'canonical' && !merged) output.note(CONVERTED);
    await writeOutput(out, made.content);
    const files = outputFiles(out, made.content);
    output.result(
      {
        name: fetched.name,
        version: fetched.version,
        digest: fetched.digest,
        base: fetched.base,
        merged,
        as: args.as,
        out,
        files,
        members: fetched.members.map(({ path: _, ...member }) => member),
      },
      () =>
        facts([
          ...files.map(({ path, bytes }): [string, string] => ['wrote', `${path}, ${fileSize(bytes)}`]),
          ['from', `${what}${merged ? `, with ${fetched.members.length - 1} below it` : ''}`],
          ['base', fetched.base],
          ['digest', asPublished ? fetched.digest : made.digest],
        ]),
    );
  },
});

const CONVERTED =
  'converted: the weights are float32, with the scale folded in. Use --as canonical for the file as ' +
  'published';

/** @returns such as `notes`, `notes.gguf`. */
export function defaultOut(name: string, as: 'peft' | 'gguf' | 'canonical'): string {
  const last = name.slice(name.lastIndexOf('/') + 1);
  return { peft: last, gguf: `${last}.gguf`, canonical: `${last}.safetensors` }[as];
}

async function encoded(
  fetched: FetchedVersion,
  options: {
    to: 'peft' | 'gguf' | 'canonical';
    merged: boolean;
    base: string | undefined;
    output: ReturnType<typeof createOutput>;
  },
): Promise<{ content: OutputContent; digest: string | null; parent: string | null }> {
  const { to, output } = options;
  const search = { base: options.base, output };
  const members: ComposeMember[] = [];
  for (const { path, scale } of fetched.members)
    members.push({ loaded: await loadUsableAdapter(path, search), scale });
  const composed = await checkComposition(members, fetched.base);
  for (const warning of composed.warnings) output.note(`warning: ${warning}`);
  const sum = composeMembers(members, null, output);
  const where = `${fetched.name}@${fetched.version}`;
  const made = await encodeComposed(to, sum, composed, where, search);
  return { content: made.content, digest: made.digest, parent: composed.parent };
}
