import { defineCommand } from 'citty';
import type { ReservedRoom } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { whyFlag, parseName } from '../admin/change-name.ts';
import { callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft reserve acme --to acme-corp', does: 'nobody else takes acme, nor a name below it' },
    { line: 'graft reserve acme --remove', does: 'ends that; names that exist stay their owners’' },
  ],
};

export default defineCommand({
  meta: { name: 'reserve' },
  args: {
    name: { type: 'positional', description: 'Name, such as acme', required: true },
    to: { type: 'string', description: 'Tenant that may publish there', valueHint: 'tenant' },
    remove: { type: 'boolean', description: 'End the reservation' },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const name = parseName(args.name);
    const { to: tenant, why } = args;
    const remove = args.remove === true;
    const dryRun = args['dry-run'] === true;
    if (remove === (tenant !== undefined))
      throw usageError(
        `For whom? Say one of --to <tenant> and --remove: graft reserve ${name} --to acme-corp.`,
      );
    if (remove && (dryRun || why !== undefined))
      throw usageError('--remove takes neither --dry-run nor --why.');
    const output = createOutput({ json: args.json === true });
    const client = await adminClient();
    if (tenant === undefined) {
      await callOperation(client, `free ${name}`, 'DELETE /admin/rooms', { query: { name } });
      return output.result({ name, removed: true }, () => `${name} is not reserved any more`);
    }
    const body = { name, tenant, why, dry_run: dryRun };
    const room = await callOperation(client, `reserve ${name}`, 'POST /admin/rooms', { body });
    if (room.notice !== undefined) output.note(room.notice);
    output.result({ ...room, ...(dryRun ? { dry_run: true } : {}) }, () => reservedText(room, dryRun));
  },
});

export function reservedText({ name, tenant, from }: ReservedRoom, dryRun: boolean): string {
  if (from === tenant)
    return `${name} is reserved for ${tenant} already; nothing ${dryRun ? 'would change' : 'changed'}`;
  const before = from === null ? '' : ` (before: for ${from})`;
  return dryRun
    ? `dry run: ${name} would be reserved for ${tenant}${before}`
    : `${name} is reserved for ${tenant}${before}`;
}
