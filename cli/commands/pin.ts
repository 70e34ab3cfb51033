import { defineCommand } from 'citty';
import { nameProblem, type PinList } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput, plainTable } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft pin alice/notes', does: 'every origin keeps its live chain in memory' },
    { line: 'graft pin', does: 'what is pinned, and where it is held' },
  ],
};

export default defineCommand({
  meta: { name: 'pin' },
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes; without it, list what is pinned',
      required: false,
    },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const { name } = args;
    const problem = name === undefined ? null : nameProblem(name);
    if (problem !== null) throw usageError(`'${name}': ${problem}.`);
    const client = await adminClient();
    const answer =
      name === undefined
        ? await callOperation(client, 'list the pins', 'GET /admin/pins', {})
        : await callOperation(client, `pin ${name}`, 'POST /admin/pins', { body: { name } });
    output.result(answer, () => pinTable(answer));
    const failed = answer.pins.find((pin) => pin.name === name)?.origins.filter(({ ok }) => !ok) ?? [];
    if (failed.length > 0)
      throw new CliError({
        message: `${name} is pinned, but not held in memory by ${failed.map(({ id }) => id).join(', ')} yet; they are asked again each minute.`,
        exitCode: EXIT.unavailable,
        code: 'not_pinned',
      });
  },
});

/** Pinned names, and each origin's word on them. */
export const pinTable = ({ pins }: PinList): string =>
  pins.length === 0
    ? 'nothing is pinned'
    : plainTable(
        ['NAME', 'LIVE', 'IN MEMORY AT', 'NOT AT'],
        pins.map(({ name, live, origins }) => [
          name,
          live ?? '-',
          origins.flatMap(({ id, ok }) => (ok ? [id] : [])).join(', ') || '-',
          origins
            .flatMap(({ id, ok, reason }) => (ok ? [] : [`${id} (${reason ?? 'no reason'})`]))
            .join(', '),
        ]),
      );
