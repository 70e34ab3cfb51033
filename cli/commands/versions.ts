import { defineCommand } from 'citty';
import { versionState, type VersionList, type VersionView } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import { parseName } from '../admin/version-argument.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { when } from '../keys/key-table.ts';
import { createOutput, fileSize, plainTable } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft versions alice/notes', does: 'every version: its state, what it is, who and when' },
  ],
  notes: [
    'Newest first. SCORE is the share of rows that its publisher says it answered exactly (`graft publish --eval`); nobody else has checked it. BY is the id of the key. `--json` has all of each version: chain, digests, proof. What is in a version, module by module, `graft show <name>@<version>` says.',
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
    const found = await lookUpVersions(await adminClient(), name);
    if (found === null)
      throw new CliError({
        message: `'${name}' does not exist or you do not have access to it. What was removed comes back with \`graft restore\`.`,
        exitCode: EXIT.notFound,
        code: 'model_not_found',
      });
    output.result(found, () => versionTable(found));
  },
});

export function versionTable({ version: live, versions }: VersionList): string {
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
      versionState(one, live),
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
