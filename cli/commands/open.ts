import { spawn } from 'node:child_process';
import { defineCommand } from 'citty';
import { makeSignInToken, SIGN_IN_LINK_MS } from '../../protocol/index.ts';
import { createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { readConnection, readLocalFile } from '../connection.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft open', does: 'opens the console, signed in, in a folder where `npm start` runs' },
    { line: 'graft open --print', does: 'prints the link instead, to be opened elsewhere' },
  ],
};

export default defineCommand({
  meta: { name: 'open' },
  args: {
    print: { type: 'boolean', description: 'Print the address, and open nothing' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const { env } = process;
    const folder = process.cwd();
    const local = env['GRAFT_URL'] ? null : await readLocalFile(folder);
    const url = local?.url ?? (await readConnection({ env, folder })).url;
    if (url === undefined)
      throw new CliError({
        message:
          'Nothing to open: `npm start` (`graft dev`) does not run in this folder. Start it and wait until it is ready, or name a server with GRAFT_URL or `graft login`.',
        exitCode: EXIT.usage,
        code: 'no_server',
      });
    const page = `${url}/dashboard`;
    // Whether anybody is there, and has a page.
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

/** @returns the platform's opener of addresses; null where there is nobody to see them. */
export function openerOf(platform: NodeJS.Platform, env: Env): [string, ...string[]] | null {
  if (platform === 'darwin') return ['open'];
  // `start` is a word of the shell's; its first text in quotes would be a title.
  if (platform === 'win32') return ['cmd', '/c', 'start', ''];
  return env['DISPLAY'] || env['WAYLAND_DISPLAY'] ? ['xdg-open'] : null;
}

/** Openers end at once; some become the browser themselves, and are not waited for. */
const OPENER_MS = 3_000;

/** @returns false when the opener is not there, or says that it failed. */
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
