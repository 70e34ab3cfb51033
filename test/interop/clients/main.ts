/** `npm run interop -- clients [name…]`: released clients, installed as users have them, against graft on a scripted model. */
import { homedir } from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import { ADAPTER, startConformanceStack } from '../../conformance/stack.ts';
import { saying } from '../../gpu-origin/http/scripted.ts';
import { CHECKS, CLIENTS } from './clients.ts';
import { installClient } from './install.ts';
import { runClient, type Outcome } from './run-client.ts';

/** What the model says, by what the prompt has: the scripts in `python/` and `node/` ask for these. */
const SCRIPT: readonly (readonly [string, string])[] = [
  ['18 degrees in Paris', 'It is 18 degrees.'],
  ['And again?', 'Still here.'],
  ['Weather in Paris?', '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>'],
  ['Call with a city', '<tool_call>\n{"name": "City", "arguments": {"city": "Rome"}}\n</tool_call>'],
  // Names of the tool that stands for a schema: LiteLLM's, and the AI SDK's for Anthropic's API.
  [
    'Call json_tool_call',
    '<tool_call>\n{"name": "json_tool_call", "arguments": {"city": "Rome"}}\n</tool_call>',
  ],
  ['Call json', '<tool_call>\n{"name": "json", "arguments": {"city": "Rome"}}\n</tool_call>'],
  ['Describe a city', '{"city": "Rome"'],
  ['Hello', 'Hi there.'],
];

/** The clients' own: no look at lists of prices or models, no traces sent, no colors. */
const QUIET = {
  LITELLM_LOCAL_MODEL_COST_MAP: 'True',
  OPENAI_AGENTS_DISABLE_TRACING: '1',
  LANGSMITH_TRACING: 'false',
  PYTHONDONTWRITEBYTECODE: '1',
  NO_COLOR: '1',
};

const WORDS = { ok: 'yes', none: '-', failed: 'FAILED' } as const;

/** @param names of `CLIENTS`, all unless any is given; @returns whether every check came out as its script expects. */
export async function runClients(names: readonly string[]): Promise<boolean> {
  const unknown = names.find((name) => !CLIENTS.some((client) => client.name === name));
  if (unknown !== undefined) {
    const known = [...new Set(CLIENTS.map(({ name }) => name))].join(', ');
    console.error(`There is no client "${unknown}". There are ${known}.`);
    return false;
  }
  const cache = path.resolve(process.env['CLIENTS'] ?? path.join(homedir(), '.cache/graft-clients'));
  const stack = await startConformanceStack({ runner: saying(SCRIPT) });
  const env = { ...QUIET, BASE_URL: stack.baseURL, API_KEY: stack.apiKey, MODEL: ADAPTER };
  const rows: { client: string; outcomes: readonly Outcome[] }[] = [];
  try {
    for (const client of CLIENTS) {
      if (names.length > 0 && !names.includes(client.name)) continue;
      const label = `${client.runtime === 'python' ? 'PyPI' : 'npm'} ${client.packages.join(', ')}`;
      console.log(label);
      const outcomes = await installClient(client, cache)
        .then((installed) => runClient(installed, env))
        .catch((error: unknown) =>
          CHECKS.map((check) => ({ check, result: 'failed' as const, why: String(error) })),
        );
      rows.push({ client: label, outcomes });
    }
  } finally {
    await stack.stop();
  }
  const table = new Table({
    head: ['client', ...CHECKS.map((check) => check.replace('_', ' '))],
    style: { head: [], border: [] },
  });
  for (const { client, outcomes } of rows)
    table.push([client, ...outcomes.map(({ result }) => WORDS[result])]);
  console.log(table.toString());
  for (const { client, outcomes } of rows)
    for (const why of new Set(outcomes.map((outcome) => outcome.why))) {
      if (why === '') continue;
      const same = outcomes.filter((outcome) => outcome.why === why);
      const checks = same.map(({ check }) => check).join(', ');
      console.log(`${WORDS[same[0]!.result]}: ${client}, ${checks}: ${why}`);
    }
  return rows.every(({ outcomes }) => outcomes.every(({ result }) => result !== 'failed'));
}
