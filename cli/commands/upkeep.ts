/** What the schedule does by itself, done now: garbage collection, and KV repaired from D1. */
import {
  type CollectGarbageAnswer,
  type GarbageFile,
  REPAIR_STEPS,
  type Mended,
  type RepairAnswer,
} from '../../protocol/admin-api/upkeep.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import { command } from '../command.ts';
import { fileSize, plainTable, type Output, when } from '../output.ts';
import { CliError } from '../cli-error.ts';

export const gcCommand = command({
  verb: 'gc',
  examples: [
    { line: 'graft gc --dry-run', does: 'shows what would be marked and deleted' },
    { line: 'graft gc', does: 'does it' },
  ],
  args: {
    'dry-run': { type: 'boolean', description: 'Show what would be done, but change nothing' },
  },
  async run({ args, output }) {
    const dryRun = args['dry-run'] === true;
    const collected = await collectAll(await adminClient(), dryRun, output);
    output.result({ dry_run: dryRun, ...collected }, () => collectedText(collected, dryRun));
  },
});

interface Collected {
  files: readonly GarbageFile[];
  /** Of files that are kept. */
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
      // A dry run reports the same ones with every page.
      parts.deleted = (page.parts?.deleted ?? 0) + (dryRun ? 0 : parts.deleted);
      parts.bytes = (page.parts?.bytes ?? 0) + (dryRun ? 0 : parts.bytes);
      if (page.cursor === null) return { files, parts };
      cursor = page.cursor;
      // Digests are spread evenly, so the first digits show the progress.
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

/** In the server's order, for the progress bar. */
const STEPS: readonly string[] = REPAIR_STEPS;

export const repairCommand = command({
  verb: 'repair',
  examples: [
    { line: 'graft repair --dry-run', does: 'shows where KV differs from D1' },
    { line: 'graft repair', does: 'rewrites KV from D1' },
  ],
  args: {
    'dry-run': { type: 'boolean', description: 'Show what would be repaired, but change nothing' },
    blobs: { type: 'boolean', description: "Check the adapters' bytes instead" },
  },
  async run({ args, output }) {
    const dryRun = args['dry-run'] === true;
    const wish = { dryRun, blobs: args.blobs === true };
    const repaired = await repairAll(await adminClient(), wish, output);
    output.result({ dry_run: dryRun, ...repaired }, () => repairedText(repaired, dryRun));
    const lost = repaired.mended.filter(({ did }) => did === 'left');
    if (lost.length > 0)
      throw new CliError({
        message:
          `Bytes of ${lost.length === 1 ? (lost[0]?.id ?? '') : `${lost.length} versions`} are missing. ` +
          'Run: graft repair --blobs',
        code: 'bytes_missing',
      });
  },
});

interface Repaired {
  /** Entries compared, by step. */
  checked: Record<string, number>;
  mended: readonly Mended[];
  /** Unreadable rows of D1. */
  damaged: readonly { table: string; id: string; column: string }[];
}

async function repairAll(
  client: ApiClient,
  { dryRun, blobs }: { dryRun: boolean; blobs: boolean },
  output: Output,
): Promise<Repaired> {
  const checked: Record<string, number> = {};
  const mended: Mended[] = [];
  const damaged: Repaired['damaged'][number][] = [];
  const bar = output.progress('repair', 'percent');
  try {
    for (let cursor: string | null = null; ;) {
      const body = { dry_run: dryRun, cursor, ...(blobs ? { blobs } : {}) };
      const page: RepairAnswer = await callOperation(client, 'repair', 'POST /admin/repair', { body });
      checked[page.step] = (checked[page.step] ?? 0) + page.checked;
      mended.push(...page.mended);
      damaged.push(...(page.damaged ?? []));
      if (page.cursor === null) return { checked, mended, damaged };
      if (blobs) bar.update(Number.parseInt(page.cursor.slice('blobs:'.length).slice(0, 4), 16), 0x1_0000);
      else bar.update(STEPS.indexOf(page.step) + 1, STEPS.length);
      cursor = page.cursor;
    }
  } finally {
    bar.end();
  }
}

/** Step names for users. */
const WORDS: Readonly<Record<string, string>> = { blobs: 'files' };

const isMended = ({ did }: Mended): boolean => did !== 'left';

const counted = (count: number, kind: string): string => `${count} ${count === 1 ? kind.slice(0, -1) : kind}`;

export function repairedText(repaired: Repaired, dryRun: boolean): string {
  const { damaged } = repaired;
  if (damaged.length === 0) return mendedText(repaired, dryRun);
  const table = plainTable(
    ['TABLE', 'ROW', 'COLUMN'],
    damaged.map(({ table, id, column }) => [table, id, column]),
  );
  const rows = damaged.length === 1 ? '1 row of D1 is' : `${damaged.length} rows of D1 are`;
  return (
    `${mendedText(repaired, dryRun)}\n${table}\n${rows} corrupted and left out of lists: restore D1, or ` +
    'correct them by hand'
  );
}

function mendedText({ checked, mended }: Repaired, dryRun: boolean): string {
  const kinds =
    'blobs' in checked
      ? ['blobs']
      : ['names', 'keys', 'grants', 'files'].filter((kind) => kind !== 'files' || kind in checked);
  const looked = kinds.map((kind) => counted(checked[kind] ?? 0, WORDS[kind] ?? kind)).join(', ');
  if (mended.length === 0)
    return 'blobs' in checked ? `${looked}: all bytes are there` : `${looked}: KV matches D1`;
  const table = plainTable(
    ['KIND', 'ID', 'WAS', dryRun ? 'WOULD BE' : 'NOW'],
    mended.map(({ kind, id, was, did }) => [kind, id, was, did]),
  );
  return `${table}\n${dryRun ? 'dry run: ' : ''}${looked} compared, ${mended.filter(isMended).length} ${dryRun ? 'would be ' : ''}repaired`;
}
