import { defineCommand } from 'citty';
import { adminClient } from '../admin/admin-client.ts';
import { pinTable } from './pin.ts';
import { callOperation } from '../api-client.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';

export default defineCommand({
  meta: { name: 'unpin' },
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const client = await adminClient();
    const { name } = args;
    const answer = await callOperation(client, `unpin ${name}`, 'DELETE /admin/pins', { query: { name } });
    output.result(answer, () => pinTable(answer));
  },
});
