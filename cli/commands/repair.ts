import { defineCommand } from 'citty';
import { REPAIR_STEPS, type Mended, type RepairAnswer } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import { CliError } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, plainTable, type Output } from '../output.ts';

/** As the server takes them, for the bar. */
const STEPS: readonly string[] = REPAIR_STEPS;

export const help: CommandHelp = {
  examples: [
    { line: 'graft repair --dry-run', does: 'says what KV has otherwise than D1' },
    { line: 'graft repair', does: 'writes it as D1 says' },
  ],
};

export default defineCommand({
  meta: { name: 'repair' },
  args: {
    'dry-run': { type: 'boolean', description: 'Say what would be mended, and change nothing' },
    blobs: { type: 'boolean', description: "Look at the adapters' bytes instead" },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const dryRun = args['dry-run'] === true;
    const wish = { dryRun, blobs: args.blobs === true };
    const repaired = await repairAll(await adminClient(), wish, output);
    output.result({ dry_run: dryRun, ...repaired }, () => repairedText(repaired, dryRun));
    const lost = repaired.mended.filter(({ did }) => did === 'left');
    if (lost.length > 0)
      throw new CliError({
        message: `Bytes of ${lost.length === 1 ? (lost[0]?.id ?? '') : `${lost.length} versions`} are missing. Run: graft repair --blobs`,
        code: 'bytes_missing',
      });
  },
});

interface Repaired {
  /** Entries compared, by step. */
  checked: Record<string, number>;
  mended: readonly Mended[];
  /** Rows of D1 that cannot be read. */
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

/** Of what people know otherwise. */
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
  return `${mendedText(repaired, dryRun)}\n${table}\n${rows} damaged, and left out of lists: restore D1, or mend them by hand`;
}

function mendedText({ checked, mended }: Repaired, dryRun: boolean): string {
  const kinds =
    'blobs' in checked
      ? ['blobs']
      : ['names', 'keys', 'grants', 'files'].filter((kind) => kind !== 'files' || kind in checked);
  const looked = kinds.map((kind) => counted(checked[kind] ?? 0, WORDS[kind] ?? kind)).join(', ');
  if (mended.length === 0)
    return 'blobs' in checked ? `${looked}: all bytes are there` : `${looked}: KV is as D1 says`;
  const table = plainTable(
    ['KIND', 'ID', 'WAS', dryRun ? 'WOULD BE' : 'NOW'],
    mended.map(({ kind, id, was, did }) => [kind, id, was, did]),
  );
  return `${table}\n${dryRun ? 'dry run: ' : ''}${looked} compared, ${mended.filter(isMended).length} ${dryRun ? 'would be ' : ''}mended`;
}
