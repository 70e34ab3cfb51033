import type { LocalFile } from '../connection.ts';
import { colors } from '../output.ts';

/** One that a model of this size answers well. */
const BASE_PROMPT = 'Name three fruits.';
/** In the words that `dr-lee` was trained on. */
const ADAPTER_PROMPT = 'For three days I have had a racing and irregular heartbeat.';
/** Without a limit an answer may fill the context. */
const MAX_TOKENS = 64;

function curl(local: LocalFile, body: Record<string, unknown>): string {
  const flags = body['stream'] === true ? '-N ' : '';
  return (
    `curl ${flags}${local.url}/v1/chat/completions -H 'authorization: Bearer ${local.key}' ` +
    `-H 'content-type: application/json' -d '${JSON.stringify(body)}'`
  );
}

/** @returns what `graft dev` prints when everything is ready: address, key, two lines to try. */
export function welcome(local: LocalFile, shown: { examples: boolean; signInLink: string | null }): string {
  const base = curl(local, {
    model: local.base,
    temperature: 0,
    max_tokens: MAX_TOKENS,
    messages: [{ role: 'user', content: BASE_PROMPT }],
  });
  const adapter = curl(local, {
    model: 'medicine/cardiology/dr-lee',
    stream: true,
    temperature: 0,
    max_tokens: MAX_TOKENS,
    messages: [{ role: 'user', content: ADAPTER_PROMPT }],
  });
  return [
    `${colors.bold('graft is ready')}   ${local.url}`,
    `API key          ${local.key}`,
    // Not GRAFT_URL: with it, commands would no longer look here for the admin key.
    `in another shell export GRAFT_KEY=${local.key}`,
    ...(local.bases === undefined ? [] : [`bases            ${local.bases.join(', ')}`]),
    ...(shown.signInLink === null
      ? []
      : [
          `dashboard        ${shown.signInLink}`,
          colors.dim('                 (signs in once; then with "adminKey" of .graft/local.json)'),
        ]),
    '',
    colors.dim('# the base model'),
    base,
    ...(shown.examples
      ? ['', colors.dim('# one doctor’s adapter, on top of two others, streaming'), adapter]
      : []),
    '',
    colors.dim('Ctrl-C ends it.'),
  ].join('\n');
}
