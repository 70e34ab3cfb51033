/** The clients that are run, with what each needs; its script is `python/check_<name>.py` or `node/check-<name>.mjs`. */
export interface Client {
  /** As its folder and its script are named. */
  readonly name: string;
  readonly runtime: 'python' | 'node';
  /** What pip or npm installs, each with its version; the first is the one that the table shows. */
  readonly packages: readonly string[];
}

const python = (name: string, ...packages: string[]): Client => ({ name, runtime: 'python', packages });
const node = (name: string, ...packages: string[]): Client => ({ name, runtime: 'node', packages });

export const CLIENTS: readonly Client[] = [
  python('openai', 'openai==3.57.0'),
  python('anthropic', 'anthropic==2.14.0'),
  python('litellm', 'litellm==1.110.2'),
  python('langchain', 'langchain-openai==1.7.4'),
  python('pydantic_ai', 'pydantic-ai-slim[openai]==2.68.0'),
  python('agents', 'openai-agents==0.24.0'),
  python('instructor', 'instructor==1.17.0'),
  node('openai', 'openai@7.57.0'),
  node('anthropic', '@anthropic-ai/sdk@1.14.0'),
  node('ai-sdk', '@ai-sdk/openai-compatible@3.0.92', 'ai@7.0.173'),
  node('ai-sdk-responses', '@ai-sdk/openai@4.0.118', 'ai@7.0.173'),
  node('ai-sdk-anthropic', '@ai-sdk/anthropic@4.0.105', 'ai@7.0.173'),
  node('langchain', '@langchain/openai@1.6.0', '@langchain/core@1.4.0'),
];

/** What every script looks at, in the order of the table's columns. */
export const CHECKS = ['chat', 'stream', 'second_turn', 'schema', 'tools', 'embeddings', 'errors'] as const;
