/** wrangler.toml of one deployment: the tree's own, with ids, addresses and paths put in. */
import { namesOf, type Deployment } from './deployment-file.ts';

/** Of the template; `wrangler d1 …` and all of docs/operations.md name it. */
export const ENVIRONMENT = 'production';

/**
 * @param template the text of `wrangler.toml`. @param paths absolute ones: the worker's entry, the page, the migrations.
 * @returns the configuration; ids that are not known yet stay zeros.
 * @throws Error when the template is not as it was: a test would have said so.
 */
export function productionConfig(params: {
  template: string;
  deployment: Deployment;
  paths: { main: string; page: string; migrations: string };
}): string {
  const { template, deployment, paths } = params;
  const names = namesOf(deployment);
  const quoted = (text: string): string => JSON.stringify(text);
  let text = template;
  const put = (what: RegExp, by: string): void => {
    if (text.search(what) === -1) throw new Error(`wrangler.toml has no ${String(what)}`);
    text = text.replace(what, () => by);
  };
  put(/^#:schema .*\n/, '# Written by `graft deploy`, anew each time: change its flags instead.\n');
  put(/^main = "worker\/index\.ts"$/m, `main = ${quoted(paths.main)}`);
  put(/^directory = "dist\/page"$/m, `directory = ${quoted(paths.page)}`);
  // The page is built before.
  put(/^\[build\]\n(?:\w.*\n)+/m, '');
  text = text.replaceAll('migrations_dir = "migrations"', `migrations_dir = ${quoted(paths.migrations)}`);
  put(/^name = "graft-production"$/m, `name = ${quoted(names.worker)}`);
  put(/^ORIGINS = '\[\{"id":"origin-1".*$/m, `ORIGINS = ${quoted(JSON.stringify(deployment.origins))}`);
  const variables = Object.entries(deployment.variables).filter(([name]) => name !== 'LOG_SAMPLE');
  const sample = deployment.variables['LOG_SAMPLE'] ?? '1';
  put(
    /^LOG_SAMPLE = "1"$/m,
    [['LOG_SAMPLE', sample], ...variables]
      .map(([name, value]) => `${name} = ${quoted(value ?? '')}`)
      .join('\n'),
  );
  if (deployment.namespace !== null) put(/^id = "0{32}"$/m, `id = ${quoted(deployment.namespace)}`);
  const [head = '', production = ''] = splitAt(text, '[[env.production.d1_databases]]');
  text =
    head + production.replace('database_name = "graft"', () => `database_name = ${quoted(names.database)}`);
  if (deployment.database !== null)
    put(/^database_id = "[0-]{36}"$/m, `database_id = ${quoted(deployment.database)}`);
  if (deployment.r2)
    put(
      /^# \[\[env\.production\.r2_buckets\]\]\n# binding = "BLOBS"\n# bucket_name = .*$/m,
      `[[env.production.r2_buckets]]\nbinding = "BLOBS"\nbucket_name = ${quoted(names.bucket)}`,
    );
  return text;
}

function splitAt(text: string, mark: string): [string, string] {
  const at = text.indexOf(mark);
  if (at === -1) throw new Error(`wrangler.toml has no ${mark}`);
  return [text.slice(0, at), text.slice(at)];
}
