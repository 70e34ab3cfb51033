import { createInterface } from 'node:readline/promises';
import { defineCommand } from 'citty';
import type { ChatMessage } from '../../protocol/index.ts';
import { createApiClient, type ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags, usageError } from '../flags.ts';
import { harmless } from '../harmless-text.ts';
import { colors, createOutput, type Output } from '../output.ts';
import { readChatStream } from '../stream/read-chat-stream.ts';
import { servedBy, servedNote } from '../stream/served-by.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft run medicine/cardiology "What does this mean?"', does: 'one answer, streamed' },
    { line: 'graft run medicine/cardiology', does: 'a conversation, on a terminal' },
    {
      line: 'graft run medicine --with style/brief=0.5 "Summarise."',
      does: 'with another adapter added, at half its strength',
    },
    { line: 'graft run base < question.txt', does: 'one prompt from a pipe, to the base model' },
  ],
  notes: [
    "`graft run base` asks the base model on a local stack; elsewhere give the base's id. In a conversation Ctrl-C ends the answer that is being printed, Ctrl-D the conversation. `--system`, `--max-tokens` and `--temperature` are passed on.",
    'A name that does not exist is answered by the nearest name above it that the key may use, which is said; `--strict` forbids it.',
  ],
};

export default defineCommand({
  meta: { name: 'run' },
  args: {
    name: {
      type: 'positional',
      description: 'Adapter name, such as medicine/cardiology; or the base model',
      required: true,
    },
    'prompt...': {
      type: 'positional',
      description: 'What to ask; without it, prompts are read from the terminal or a pipe',
      required: false,
    },
    'max-tokens': { type: 'string', description: 'Longest answer, tokens', valueHint: 'n' },
    temperature: { type: 'string', description: '0 = always the likeliest token', valueHint: 't' },
    system: { type: 'string', description: 'System message', valueHint: 'text' },
    strict: { type: 'boolean', description: 'This very name, or nothing: no name above it answers' },
    with: {
      type: 'string',
      description: 'Adapters to add, each with its scale, 1 unless given: style=0.5,tone',
      valueHint: 'names',
    },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'key') });
    const settings = {
      model: args.name === 'base' && connection.base !== undefined ? connection.base : args.name,
      ...number(args['max-tokens'], 'max_tokens', '--max-tokens'),
      ...number(args.temperature, 'temperature', '--temperature'),
      ...(args.strict === true ? { strict: true } : {}),
      ...(args.with === undefined ? {} : { adapters: parseWith(args.with) }),
    };
    const system: ChatMessage[] = args.system === undefined ? [] : [{ role: 'system', content: args.system }];
    const prompt = args._.slice(1).join(' ');
    if (prompt !== '') {
      await ask(client, output, settings, [...system, { role: 'user', content: prompt }]);
    } else if (process.stdin.isTTY) {
      await converse(client, output, settings, system);
    } else {
      const piped = (await readAll(process.stdin)).trim();
      if (piped === '') throw usageError('No prompt: give one, or pipe one in.');
      await ask(client, output, settings, [...system, { role: 'user', content: piped }]);
    }
  },
});

type Settings = { model: string } & Record<string, unknown>;

/** One turn. @returns the answer's text. */
async function ask(
  client: ApiClient,
  output: Output,
  settings: Settings,
  messages: readonly ChatMessage[],
  signal?: AbortSignal,
): Promise<string> {
  const response = await client.send(`run ${settings.model}`, '/v1/chat/completions', {
    method: 'POST',
    body: JSON.stringify({ ...settings, messages, stream: true, stream_options: { include_usage: true } }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.body === null) throw new CliError({ message: 'The server sent no answer.' });
  const served = servedBy(response.headers);
  const note = servedNote(settings.model, served);
  if (note !== null) output.note(colors.dim(note));
  const { text, usage } = await readChatStream(response.body, (piece) => {
    if (!output.json) process.stdout.write(process.stdout.isTTY ? harmless(piece) : piece);
  });
  if (!output.json) process.stdout.write('\n');
  else output.result({ model: settings.model, ...served, text, usage }, () => '');
  return text;
}

/** Prompts from a terminal until its end (Ctrl-D); the conversation is kept. Ctrl-C ends an answer, then the session. */
async function converse(
  client: ApiClient,
  output: Output,
  settings: Settings,
  system: ChatMessage[],
): Promise<void> {
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const messages = [...system];
  let answering: AbortController | null = null;
  terminal.on('SIGINT', () => (answering === null ? terminal.close() : answering.abort()));
  terminal.setPrompt(colors.dim(`${settings.model}> `));
  terminal.prompt();
  for await (const line of terminal) {
    if (line.trim() !== '') {
      answering = new AbortController();
      messages.push({ role: 'user', content: line });
      try {
        const text = await ask(client, output, settings, messages, answering.signal);
        messages.push({ role: 'assistant', content: text });
      } catch (error) {
        messages.pop();
        if (answering.signal.aborted) process.stdout.write('\n');
        else if (error instanceof CliError && error.exitCode !== EXIT.auth)
          console.error(`${colors.red('error:')} ${harmless(error.message)}`);
        else throw error;
      }
      answering = null;
    }
    terminal.prompt();
  }
}

function number(text: string | undefined, field: string, flag: string): Record<string, number> {
  if (text === undefined) return {};
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw usageError(`${flag} ${text} is not a number.`);
  return { [field]: value };
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  let text = '';
  stream.setEncoding('utf8');
  for await (const piece of stream) text += piece as string;
  return text;
}

/**
 * @param text `name[=scale],…` as `--with` has it. @returns the request's `adapters`.
 * @throws CliError (usage)
 */
export function parseWith(text: string): { name: string; scale: number }[] {
  return text.split(',').map((entry) => {
    const [name = '', scale = '1', ...rest] = entry.trim().split('=');
    const number = Number(scale);
    if (name === '' || scale.trim() === '' || !Number.isFinite(number) || rest.length > 0)
      throw usageError(`--with takes names and scales, such as style=0.5,tone, and not '${entry}'.`);
    return { name, scale: number };
  });
}
