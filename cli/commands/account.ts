/** Signing in: keys of servers, the console, the server's API document. */
import { operationPath } from '../../protocol/admin-api/operations.ts';
import { checkApiKey, makeSignInToken, SIGN_IN_LINK_MS } from '../../protocol/identity.ts';
import { createApiClient, type ApiClient, callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { command } from '../command.ts';
import {
  isThisMachine,
  trimUrl,
  readCredentials,
  writeCredentials,
  readConnection,
  readLocalFile,
} from '../connection.ts';
import { usageError } from '../flags.ts';
import { readSecret } from '../ask-at-terminal.ts';
import { spawn } from 'node:child_process';
import { z } from 'zod';
import { adminClient } from '../admin/admin-client.ts';
import { stripControlCharsJson } from '../output.ts';

export const loginCommand = command({
  verb: 'login',
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
  args: {
    url: { type: 'string', description: 'Address of the edge', valueHint: 'url', required: true },
    admin: { type: 'boolean', description: 'The key is an admin key (ga_…), for publishing and listing' },
  },
  async run({ args, output }) {
    const url = serverUrl(args.url);
    const admin = args.admin === true;
    const credentials = await readCredentials(process.env);
    const key = checkedKey(
      await readSecret(`${admin ? 'admin' : 'API'} key for ${url} (not shown): `),
      admin,
    );
    // Any answer but a refusal will do: these two requests change nothing and need no other right.
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
    throw usageError('--url contains a name or password. Give the address alone.');
  if (url.protocol === 'http:' && !isThisMachine(url))
    throw usageError(`--url ${text}: over http the key can be read in transit. Use https.`);
  return trimUrl(url.href);
}

/** @throws CliError when it is not a key of that kind; the message never contains it. */
function checkedKey(text: string, admin: boolean): string {
  const refuse = (message: string) => new CliError({ message, exitCode: EXIT.auth, code: 'key_invalid' });
  if (text === '') throw refuse('No key given.');
  const kind = checkApiKey(text);
  if (kind === null)
    throw refuse(
      'This is not a complete key: gk_ or ga_ and 33 letters and digits, the last of them a checksum.',
    );
  if (admin && kind === 'gk') throw refuse('This is an API key (gk_…). Log in without --admin.');
  if (!admin && kind === 'ga') throw refuse('This is an admin key (ga_…). Log in with --admin.');
  return text;
}

export const logoutCommand = command({
  verb: 'logout',
  args: {
    url: {
      type: 'string',
      description: 'Address of the edge; default: the server of the last login',
      valueHint: 'url',
    },
  },
  async run({ args, output }) {
    const credentials = await readCredentials(process.env);
    const url = args.url === undefined ? credentials.default : asAddress(args.url);
    const server = url === null ? null : trimUrl(url);
    if (server === null || !credentials.servers.delete(server)) {
      const known = [...credentials.servers.keys()];
      const hint =
        known.length === 0
          ? 'No keys are stored.'
          : `Keys are stored for ${known.join(', ')}. Choose one with --url.`;
      throw new CliError({
        message: server === null ? hint : `No keys for ${server}. ${hint}`,
        exitCode: EXIT.notFound,
        code: 'not_logged_in',
      });
    }
    // Another server is never used instead: a publish must not go somewhere unexpected.
    if (credentials.default === server) credentials.default = null;
    await writeCredentials(process.env, credentials);
    output.result(
      { url: server },
      () => `logged out of ${server}; its keys still work until they are revoked`,
    );
  },
});

/** As login stores it, even if typed in capitals. */
const asAddress = (text: string): string => (URL.canParse(text) ? new URL(text).href : text);

export const openCommand = command({
  verb: 'open',
  examples: [
    { line: 'graft open', does: 'opens the console, signed in; run it where `npm start` runs' },
    { line: 'graft open --print', does: 'prints the link, to open elsewhere' },
  ],
  args: {
    print: { type: 'boolean', description: 'Print the address without opening it' },
  },
  async run({ args, output }) {
    const { env } = process;
    const folder = process.cwd();
    const local = env['GRAFT_URL'] ? null : await readLocalFile(folder);
    const url = local?.url ?? (await readConnection({ env, folder })).url;
    if (url === undefined)
      throw new CliError({
        message:
          'Nothing to open: `npm start` (`graft dev`) does not run in this folder. Start it and ' +
          'wait until it is ready, or name a server with GRAFT_URL or `graft login`.',
        exitCode: EXIT.usage,
        code: 'no_server',
      });
    const page = `${url}/dashboard`;
    // Whether the server answers and has a page.
    const answer = await createApiClient({ url, key: undefined }).send(`open ${page}`, '/dashboard');
    await answer.body?.cancel();
    const link =
      local === null
        ? page
        : `${page}#/sign-in/${await makeSignInToken(local.adminKey, Date.now() + SIGN_IN_LINK_MS)}`;
    const command = args.print === true ? null : openerOf(process.platform, env);
    const opened = command !== null && (await opens([...command, link]));
    output.result({ url: opened ? page : link, opened }, () =>
      opened ? `opened ${page}${local === null ? '' : ', signed in'}` : link,
    );
    if (local === null) output.note('The page asks for an admin key (ga_…).');
    else if (!opened) output.note('The link signs in once, within five minutes.');
  },
});

type Env = Readonly<Record<string, string | undefined>>;

/** @returns the platform's command that opens addresses; null without a desktop. */
export function openerOf(platform: NodeJS.Platform, env: Env): [string, ...string[]] | null {
  if (platform === 'darwin') return ['open'];
  // `start` is a shell built-in; its first quoted argument would be a title.
  if (platform === 'win32') return ['cmd', '/c', 'start', ''];
  return env['DISPLAY'] || env['WAYLAND_DISPLAY'] ? ['xdg-open'] : null;
}

/** Openers exit at once; some become the browser themselves, so they are not waited for. */
const OPENER_MS = 3_000;

/** @returns false when the opener is missing or fails. */
function opens([program = '', ...args]: readonly string[]): Promise<boolean> {
  const child = spawn(program, args, { stdio: 'ignore', detached: true });
  child.unref();
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(true), OPENER_MS);
    const end = (good: boolean) => {
      clearTimeout(timer);
      resolve(good);
    };
    child.once('error', () => end(false));
    child.once('exit', (code) => end(code === 0));
  });
}

/** Enough to recognise the document. */
const OpenApiDocument = z.looseObject({ openapi: z.string(), paths: z.record(z.string(), z.unknown()) });

export const openapiCommand = command({
  verb: 'openapi',
  examples: [{ line: 'graft openapi > graft.json', does: 'for a client generator' }],
  args: {},
  async run({ output }) {
    const document = await readOpenApi(await adminClient());
    output.result(document, () => stripControlCharsJson(document, 2));
  },
});

/**
 * @returns the document as received, with its keys in order. @throws CliError; ZodError when it is something
 * else.
 */
export async function readOpenApi(client: ApiClient): Promise<unknown> {
  const document = await callOperation(client, 'read the OpenAPI document', 'GET /admin/openapi.json', {});
  OpenApiDocument.parse(document);
  return document;
}
