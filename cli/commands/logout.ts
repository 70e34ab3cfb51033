import { defineCommand } from 'citty';
import { CliError, EXIT } from '../cli-error.ts';
import { trimUrl, readCredentials, writeCredentials } from '../connection.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';

export default defineCommand({
  meta: { name: 'logout' },
  args: {
    url: {
      type: 'string',
      description: 'Address of the edge; otherwise the server of the last login',
      valueHint: 'url',
    },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const credentials = await readCredentials(process.env);
    const url = args.url === undefined ? credentials.default : asAddress(args.url);
    const server = url === null ? null : trimUrl(url);
    if (server === null || !credentials.servers.delete(server)) {
      const known = [...credentials.servers.keys()];
      const hint =
        known.length === 0 ? 'No keys are kept.' : `Keys are kept for ${known.join(', ')}; use --url.`;
      throw new CliError({
        message: server === null ? hint : `There are no keys for ${server}. ${hint}`,
        exitCode: EXIT.notFound,
        code: 'not_logged_in',
      });
    }
    // No other server takes its place unasked: a publish must not go somewhere unexpected.
    if (credentials.default === server) credentials.default = null;
    await writeCredentials(process.env, credentials);
    output.result(
      { url: server },
      () => `logged out of ${server}; its keys still work until they are revoked`,
    );
  },
});

/** As login keeps it, also when somebody types it with capitals. */
const asAddress = (text: string): string => (URL.canParse(text) ? new URL(text).href : text);
