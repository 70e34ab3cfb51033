import { defineCommand } from 'citty';
import { nameProblem } from '../../protocol/index.ts';
import { lookUpBase } from '../admin/look-up.ts';
import { createApiClient } from '../api-client.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput, megabytes } from '../output.ts';
import { publishFolder } from '../publish/publish-folder.ts';

export default defineCommand({
  meta: { name: 'publish', description: 'Check, pack and upload a PEFT adapter, and make it live' },
  args: {
    folder: {
      type: 'positional',
      description: 'Folder with adapter_config.json and adapter_model.safetensors',
      required: true,
    },
    name: { type: 'string', description: 'Name, such as alice/notes', valueHint: 'name', required: true },
    parent: {
      type: 'string',
      description: 'Name of the adapter it was trained on top of',
      valueHint: 'name',
    },
    stage: { type: 'boolean', description: 'Add the version without making it live' },
    ...commonFlags,
  },
  async run({ args }) {
    for (const [flag, name] of [
      ['--name', args.name],
      ['--parent', args.parent],
    ] as const) {
      const problem = name === undefined ? null : nameProblem(name);
      if (problem !== null) throw usageError(`${flag} ${name}: ${problem}.`);
    }
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
    const base = await lookUpBase(client);
    const { version, created, sent } = await publishFolder({
      client,
      baseId: base.id,
      folder: args.folder,
      name: args.name,
      parent: args.parent ?? null,
      stage: args.stage === true,
      output,
    });
    output.result({ ...version, created, sent_bytes: sent }, () => {
      const what = `${version.name}@${version.version}`;
      if (!created) return `${what} is this adapter already; nothing changed`;
      const size = `rank ${version.rank}, ${megabytes(version.bytes)}`;
      return `${what} ${version.live ? 'is live' : 'is staged'} (${size}, ${version.digest.slice(0, 12)})`;
    });
  },
});
