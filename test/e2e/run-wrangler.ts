import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';

const ROOT = path.join(import.meta.dirname, '../..');

/**
 * `wrangler kv key …` on the local state of a running edge.
 * @param state what `--persist-to` takes: `.wrangler/state` of the edge's folder.
 * @returns its stdout. @throws when it fails.
 */
export async function wranglerKvKey(state: string, args: readonly string[]): Promise<string> {
  const where = ['--binding', 'ADAPTERS', '--local', '--persist-to', state];
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [path.join(ROOT, 'node_modules/wrangler/bin/wrangler.js'), 'kv', 'key', ...args, ...where],
    {
      cwd: ROOT,
      // Its logs and settings go below HOME; without the banner it asks no registry for a newer one.
      env: {
        PATH: process.env['PATH'],
        HOME: state,
        CI: '1',
        WRANGLER_HIDE_BANNER: 'true',
        WRANGLER_SEND_METRICS: 'false',
      },
    },
  );
  return stdout;
}
