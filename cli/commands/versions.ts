import { defineCommand } from 'citty';
import {
  liveOnce,
  MAX_HISTORY_PAGE,
  VERSION_STATE_WORDS,
  versionState,
  type ChangeView,
  type VersionList,
  type VersionView,
} from '../../protocol/index.ts';
import { adminClient, lookUpVersions } from '../admin/admin-client.ts';
import { readHistory } from '../admin/read-history.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, fileSize, plainTable, when } from '../output.ts';
import { parseName } from '../admin/change-name.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft versions alice/notes', does: 'every version: its state, what it is, who and when' },
  ],
};

export default defineCommand({
  meta: { name: 'versions' },
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const name = parseName(args.name);
    const client = await adminClient();
    const found = await lookUpVersions(client, name);
    if (found === null)
      throw new CliError({
        message: `'${name}' does not exist or you do not have access to it. What was removed comes back with \`graft restore\`.`,
        exitCode: EXIT.notFound,
        code: 'model_not_found',
      });
    const wasLive = liveOnce(await ownHistory(client, name));
    const stateOf = (one: VersionView) => versionState(one, found.version, wasLive.has(one.version));
    const versions = found.versions.map((one) => ({ ...one, state: stateOf(one) }));
    output.result({ ...found, versions }, () => versionTable(found, wasLive));
  },
});

/** Changes of the name, newest first; none of one that is another's, whose versions may be seen all the same. */
async function ownHistory(client: ApiClient, name: string): Promise<ChangeView[]> {
  try {
    return await readHistory(client, name, MAX_HISTORY_PAGE);
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.notFound) return [];
    throw error;
  }
}

/** @param wasLive those that were live once. */
export function versionTable(
  { version: live, versions }: VersionList,
  wasLive: ReadonlySet<number> = new Set(),
): string {
  if (versions.length === 0) return 'no versions';
  const scored = versions.some(({ evaluation }) => evaluation !== null);
  return plainTable(
    [
      'VERSION',
      'STATE',
      'BASE',
      'ON TOP OF',
      'RANK',
      'SIZE',
      ...(scored ? ['SCORE'] : []),
      'WHEN',
      'BY',
      'DIGEST',
    ],
    versions.map((one) => [
      String(one.version),
      VERSION_STATE_WORDS[versionState(one, live, wasLive.has(one.version))],
      one.base.id,
      one.parent ?? 'the base',
      String(one.rank),
      fileSize(one.bytes),
      ...(scored ? [score(one)] : []),
      when(one.created_at),
      one.created_by,
      one.digest.slice(0, 12),
    ]),
  );
}

const score = ({ evaluation }: VersionView): string =>
  evaluation === null ? '-' : `${Math.round(100 * evaluation.exact_match)} % of ${evaluation.rows}`;
