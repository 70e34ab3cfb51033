/** Runs what "Call it" of the console writes, against the edge, and records what it sends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { isDeepStrictEqual } from 'node:util';
import { callCode, type ChatBody, type Language } from '../../dashboard/model/call-code.ts';
import { WAIT_MS } from '../setup/slow.ts';
import type { ConformanceStack } from './stack.ts';

/** What the scripted model says to {@link ALL}. */
export const ANSWER = 'Hi there.';

/** Every parameter of the playground, and text that shells and languages could take apart. */
export const ALL = {
  messages: [
    { role: 'system', content: 'Be "brief".' },
    { role: 'user', content: "It's $HOME and `date`, é \\n" },
    { role: 'assistant', content: 'So it is.' },
    { role: 'user', content: 'Hello' },
  ],
  ...{ temperature: 0.5, top_p: 0.9, max_tokens: 32, seed: 7, stop: ['###', '\n\n'] },
} satisfies Omit<ChatBody, 'model'>;

export interface Recorder {
  /** Instead of the edge's, without `/v1`. */
  readonly url: string;
  /** Bodies, in their order. */
  readonly bodies: Record<string, unknown>[];
  stop(): void;
}

/** Passes requests on to the edge. */
export async function recordRequests({ baseURL }: ConformanceStack): Promise<Recorder> {
  const bodies: Record<string, unknown>[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => void chunks.push(chunk));
    request.on('end', async () => {
      const body = Buffer.concat(chunks).toString();
      bodies.push(JSON.parse(body) as Record<string, unknown>);
      const headers = {
        authorization: request.headers.authorization ?? '',
        'content-type': request.headers['content-type'] ?? '',
      };
      const path = (request.url ?? '').replace(/^\/v1/, '');
      const answer = await fetch(baseURL + path, { method: 'POST', headers, body });
      response.writeHead(answer.status, { 'content-type': answer.headers.get('content-type') ?? '' });
      response.end(await answer.text());
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, bodies, stop: () => void server.close() };
}

/** @param args of the program, followed by the code. @returns its output. @throws Error with what it said when it fails. */
export async function runCode(params: {
  executable: string;
  args: readonly string[];
  code: string;
  cwd: string;
  env: Record<string, string>;
}): Promise<string> {
  const { executable, args, code, cwd, env } = params;
  const child = spawn(executable, [...args, code], {
    ...{ cwd, env: { ...process.env, ...env }, timeout: WAIT_MS },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [output, errors] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  const [status] = (await once(child, 'close')) as [number | null];
  if (status !== 0) throw new Error(`it ended with ${status}: ${errors || output}`);
  return output;
}

/** What docs/guides/clients.md shows, by language. */
export const guideCode = (language: Language): string =>
  callCode(language, 'http://127.0.0.1:8787', {
    model: 'medicine',
    messages: [{ role: 'user', content: 'I have a dry cough.' }],
  });

/** Runs the code of a language with {@link ALL}. @throws Error when the answer is another, or a field does not arrive. */
export async function checkSnippet(params: {
  language: Language;
  recorder: Recorder;
  model: string;
  run: (code: string) => Promise<string>;
}): Promise<void> {
  const { language, recorder, model, run } = params;
  const before = recorder.bodies.length;
  const output = await run(callCode(language, recorder.url, { model, ...ALL }));
  if (!output.includes(ANSWER)) throw new Error(`it printed ${output}`);
  const sent = recorder.bodies.at(-1) ?? {};
  if (recorder.bodies.length !== before + 1) throw new Error('it did not send one request');
  // LangChain uses the newer name of the field.
  const { max_completion_tokens: most, ...others } = sent;
  const arrived = { ...others, max_tokens: others['max_tokens'] ?? most };
  for (const [field, value] of Object.entries({ model, ...ALL })) {
    const got = arrived[field as keyof typeof arrived];
    if (!isDeepStrictEqual(got, value)) throw new Error(`${field} arrived as ${JSON.stringify(got)}`);
  }
}
