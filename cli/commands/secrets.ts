import { randomBytes } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { command } from '../command.ts';
import { isLeftDraft, writePrivateFiles } from '../local/private-files.ts';

export const secretsCommand = command({
  verb: 'secrets',
  examples: [{ line: 'graft secrets production-secrets', does: 'the secrets of a new deployment' }],
  args: {
    folder: {
      type: 'positional',
      description: 'Where to write them; a new or empty folder outside any repository',
      valueHint: 'folder',
      required: true,
    },
  },
  async run({ args, output }) {
    const folder = path.resolve(args.folder);
    // Secrets in use would be lost for good.
    if (!(await readdir(folder).catch(() => [])).every(isLeftDraft))
      throw new CliError({
        message: `${folder} is not empty, and secrets are never overwritten. Name a new folder.`,
        exitCode: EXIT.usage,
        code: 'folder_not_empty',
      });
    const { worker, originEnv, adminKey } = await makeSecrets(new Date());
    const at = (name: string): string => path.join(folder, name);
    const files: [file: string, text: string][] = [
      [at('origin.env'), originEnv],
      [at('admin-key'), `${adminKey}\n`],
      // Last, because its existence proves the others.
      [at('worker.json'), `${JSON.stringify(worker, null, 2)}\n`],
    ];
    await writePrivateFiles(files);
    const paths = files.map(([file]) => file).reverse();
    output.result({ files: paths }, () => paths.map((file) => `wrote ${file}`).join('\n'));
  },
});

/** As many bytes as SHA-256's output, beyond which HMAC gains nothing. */
const SECRET_BYTES = 32;
const secret = (): string => randomBytes(SECRET_BYTES).toString('base64');

interface Secrets {
  /** For the edge, by name. */
  worker: Record<'GRAFT_MAC_KEY' | 'GRAFT_ORIGIN_KEYS' | 'GRAFT_ADMIN_KEY_SHA256', string>;
  /** Lines of `NAME=value`. */
  originEnv: string;
  adminKey: string;
}

/** @param now part of the origins' key id, so that two of them can be told apart after a rotation. */
export async function makeSecrets(now: Date): Promise<Secrets> {
  const adminKey = generateApiKey('ga');
  const originKeys = `k${now.toISOString().slice(0, 10).replaceAll('-', '')}:${secret()}`;
  return {
    worker: {
      GRAFT_MAC_KEY: secret(),
      GRAFT_ORIGIN_KEYS: originKeys,
      GRAFT_ADMIN_KEY_SHA256: await hashApiKey(adminKey),
    },
    originEnv: `GRAFT_ORIGIN_KEYS=${originKeys}\n`,
    adminKey,
  };
}
