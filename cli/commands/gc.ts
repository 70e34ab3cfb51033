import { defineCommand } from 'citty';
import type { CollectGarbageAnswer, GarbageFile } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, fileSize, plainTable, type Output, when } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft gc --dry-run', does: 'says what would be marked and deleted' },
    { line: 'graft gc', does: 'does it' },
  ],
};

export default defineCommand({
  meta: { name: 'gc' },
  args: {
    'dry-run': { type: 'boolean', description: 'Say what would be done, and change nothing' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const dryRun = args['dry-run'] === true;
    const collected = await collectAll(await adminClient(), dryRun, output);
    output.result({ dry_run: dryRun, ...collected }, () => collectedText(collected, dryRun));
  },
});

interface Collected {
  files: readonly GarbageFile[];
  /** Of files that stay. */
  parts: { deleted: number; bytes: number };
}

async function collectAll(client: ApiClient, dryRun: boolean, output: Output): Promise<Collected> {
  const files: GarbageFile[] = [];
  const parts = { deleted: 0, bytes: 0 };
  const bar = output.progress('gc', 'percent');
  try {
    for (let cursor: string | null = null; ;) {
      const body = { dry_run: dryRun, cursor };
      const page: CollectGarbageAnswer = await callOperation(client, 'collect garbage', 'POST /admin/gc', {
        body,
      });
      files.push(...page.files);
      // A dry run is told the same ones with every page.
      parts.deleted = (page.parts?.deleted ?? 0) + (dryRun ? 0 : parts.deleted);
      parts.bytes = (page.parts?.bytes ?? 0) + (dryRun ? 0 : parts.bytes);
      if (page.cursor === null) return { files, parts };
      cursor = page.cursor;
      // Digests are spread evenly, so that the first digits say how far we are.
      bar.update(Number.parseInt(cursor.slice(0, 4), 16), 0x1_0000);
    }
  } finally {
    bar.end();
  }
}

export function collectedText({ files, parts }: Collected, dryRun: boolean): string {
  const told = [
    ...(files.length === 0 ? [] : [filesText(files, dryRun)]),
    ...(parts.deleted === 0 ? [] : [partsText(parts, dryRun)]),
  ];
  return told.length === 0 ? 'no garbage' : told.join('\n');
}

const partsText = ({ deleted, bytes }: Collected['parts'], dryRun: boolean): string =>
  `${dryRun ? 'dry run: ' : ''}${deleted} ${deleted === 1 ? 'part' : 'parts'} beside files, ${fileSize(bytes)}, ` +
  `${dryRun ? 'would be ' : ''}deleted`;

function filesText(files: readonly GarbageFile[], dryRun: boolean): string {
  const table = plainTable(
    ['FILE', 'SIZE', dryRun ? 'WOULD BE' : 'IS', 'DELETED FROM'],
    files.map(({ digest, bytes, action, deletable_at }) => [
      digest.slice(0, 12),
      fileSize(bytes),
      action === 'waits' ? 'marked already' : action,
      deletable_at === null ? '-' : when(deletable_at),
    ]),
  );
  const deleted = files.filter(({ action }) => action === 'deleted');
  const bytes = deleted.reduce((sum, file) => sum + file.bytes, 0);
  const counted = `${deleted.length} of ${files.length} files${deleted.length === 0 ? '' : `, ${fileSize(bytes)},`}`;
  return `${table}\n${dryRun ? 'dry run: ' : ''}${counted} ${dryRun ? 'would be ' : ''}deleted`;
}
