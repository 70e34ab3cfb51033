/** `npm run interop -- snippets`: what the console's "Call it" writes, with the released clients, against graft on a scripted model. */
import { mkdir } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { LANGUAGES, type Language } from '../../../dashboard/model/call-code.ts';
import { ALL, ANSWER, checkSnippet, recordRequests, runCode } from '../../conformance/snippet.ts';
import { ADAPTER, startConformanceStack } from '../../conformance/stack.ts';
import { saying } from '../../gpu-origin/http/scripted.ts';
import { CLIENTS, type Client } from '../clients/clients.ts';
import { installPackages } from '../clients/install.ts';

const LLAMA_INDEX: Client = {
  ...{ name: 'llama_index', runtime: 'python' },
  packages: ['llama-index-llms-openai-like==0.8.1'],
};
const clientOf = (name: string, runtime: Client['runtime']): Client =>
  CLIENTS.find((client) => client.name === name && client.runtime === runtime)!;

/** What each needs; null = nothing. */
const NEEDS: Readonly<Record<Language, Client | null>> = {
  curl: null,
  'OpenAI Python': clientOf('openai', 'python'),
  'OpenAI JS': clientOf('openai', 'node'),
  LangChain: clientOf('langchain', 'python'),
  LlamaIndex: LLAMA_INDEX,
  'AI SDK': clientOf('ai-sdk', 'node'),
  LiteLLM: clientOf('litellm', 'python'),
};

/** @returns whether every snippet got the answer and sent every field. */
export async function runSnippets(): Promise<boolean> {
  const cache = path.resolve(process.env['CLIENTS'] ?? path.join(homedir(), '.cache/graft-clients'));
  await mkdir(cache, { recursive: true });
  const stack = await startConformanceStack({ runner: saying([[ALL.messages.at(-1)!.content, ANSWER]]) });
  const recorder = await recordRequests(stack);
  const env = { GRAFT_KEY: stack.apiKey, LITELLM_LOCAL_MODEL_COST_MAP: 'True', LANGSMITH_TRACING: 'false' };
  let good = true;
  try {
    for (const language of LANGUAGES) {
      const client = NEEDS[language];
      try {
        const { executable, args, cwd } = await programOf(client, cache);
        const run = (code: string) => runCode({ executable, args, code, cwd, env });
        await checkSnippet({ language, recorder, model: ADAPTER, run });
        console.log(`${language}: yes (${client?.packages.join(', ') ?? 'curl'})`);
      } catch (error) {
        good = false;
        console.log(`${language}: FAILED: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
  } finally {
    recorder.stop();
    await stack.stop();
  }
  return good;
}

async function programOf(
  client: Client | null,
  cache: string,
): Promise<{ executable: string; args: readonly string[]; cwd: string }> {
  if (client === null) return { executable: 'sh', args: ['-c'], cwd: cache };
  const { executable, folder } = await installPackages(client, cache);
  return {
    ...{ executable, cwd: folder },
    args: client.runtime === 'python' ? ['-c'] : ['--input-type=module', '--eval'],
  };
}
