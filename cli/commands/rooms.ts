import { defineCommand } from 'citty';
import type { RoomList, RoomView } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, plainTable } from '../output.ts';

export const help: CommandHelp = {
  examples: [{ line: 'graft rooms', does: 'rooms that are reserved for your tenant' }],
};

export default defineCommand({
  meta: { name: 'rooms' },
  args: { ...commonFlags },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const client = await adminClient();
    const found: RoomView[] = [];
    for (let cursor: string | null = null; ;) {
      const query = { cursor };
      const page: RoomList = await callOperation(client, 'list the rooms', 'GET /admin/rooms', { query });
      found.push(...page.rooms);
      if (page.cursor === null) break;
      cursor = page.cursor;
    }
    output.result(found, () => (found.length === 0 ? 'no rooms' : roomTable(found)));
  },
});

export const roomTable = (rooms: readonly RoomView[]): string =>
  plainTable(
    ['ROOM', 'TENANT', 'SINCE', 'BY'],
    rooms.map(({ name, tenant, created_at, created_by }) => [
      name,
      tenant,
      new Date(created_at).toISOString().slice(0, 10),
      created_by,
    ]),
  );
