import { defineCommand } from 'citty';
import { checkApiKey, operationPath } from '../../protocol/index.ts';
import { createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { trimUrl, readCredentials, writeCredentials } from '../connection.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput } from '../output.ts';
import { readSecret } from '../ask-at-terminal.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft login --url https://graft.example.com',
      does: 'asks for an API key (gk_…) without showing it',
    },
    {
      line: 'graft login --url https://graft.example.com --admin < key.txt',
      does: 'reads the admin key from a file, such as a secret that CI mounts',
    },
  ],
};

export default defineCommand({
  meta: { name: 'login' },
  args: {
    url: { type: 'string', description: 'Address of the edge', valueHint: 'url', required: true },
    admin: { type: 'boolean', description: 'The key is an admin key (ga_…), to publish and list with' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const url = serverUrl(args.url);
    const admin = args.admin === true;
    const credentials = await readCredentials(process.env);
    const key = checkedKey(
      await readSecret(`${admin ? 'admin' : 'API'} key for ${url} (not shown): `),
      admin,
    );
    // Any answer but a refusal will do: these two change nothing and need nothing else.
    const answer = await createApiClient({ url, key }).send(
      `log in to ${url}`,
      admin ? operationPath('GET /admin/names') : '/v1/models',
    );
    await answer.body?.cancel();
    credentials.servers.set(url, { ...credentials.servers.get(url), [admin ? 'adminKey' : 'key']: key });
    credentials.default = url;
    const file = await writeCredentials(process.env, credentials);
    output.result(
      { url, admin, file },
      () => `logged in to ${url}; the ${admin ? 'admin' : 'API'} key is in ${file}`,
    );
  },
});

/** @throws CliError unless it is https, or this machine. */
export function serverUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== '' || url.hash !== '')
    throw usageError(`--url ${text} is not an address such as https://graft.example.com.`);
  if (url.username !== '' || url.password !== '')
    throw usageError('--url holds a name or password: give the address alone.');
  const here = ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
  if (url.protocol === 'http:' && !here)
    throw usageError(`--url ${text}: over http everybody on the way can read the key; use https.`);
  return trimUrl(url.href);
}

/** @throws CliError when it is not a key of that kind; the message never repeats it. */
function checkedKey(text: string, admin: boolean): string {
  const refuse = (message: string) => new CliError({ message, exitCode: EXIT.auth, code: 'key_invalid' });
  if (text === '') throw refuse('No key was given.');
  const kind = checkApiKey(text);
  if (kind === null)
    throw refuse(
      'This is not a whole key: gk_ or ga_ and 33 letters and digits, the last of them a checksum.',
    );
  if (admin && kind === 'gk') throw refuse('This is an API key (gk_…): log in without --admin.');
  if (!admin && kind === 'ga') throw refuse('This is an admin key (ga_…): log in with --admin.');
  return text;
}
