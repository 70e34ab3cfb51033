import type { ChatMessage } from '../../protocol/completion.ts';
import { createApiClient } from '../api-client.ts';
import { ask } from '../chat/ask.ts';
import { converse } from '../chat/converse.ts';
import { command } from '../command.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { repeatedFlag, usageError } from '../flags.ts';

export const runCommand = command({
  verb: 'run',
  examples: [
    { line: 'graft run medicine/cardiology "What does this mean?"', does: 'one answer, streamed' },
    { line: 'graft run medicine/cardiology', does: 'a conversation in the terminal' },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Adapter name, such as medicine/cardiology; or the base model',
      required: true,
    },
    'prompt...': {
      type: 'positional',
      description: 'Prompt; omit it to read prompts from the terminal or a pipe',
      required: false,
    },
    'max-tokens': { type: 'string', description: 'Maximum answer length, tokens', valueHint: 'n' },
    temperature: { type: 'string', description: '0 = always the likeliest token', valueHint: 't' },
    'top-p': {
      type: 'string',
      description: 'Sample only from the likeliest tokens that reach this probability, 0 to 1',
      valueHint: 'share',
    },
    seed: { type: 'string', description: 'Repeat an answer: same seed, same settings', valueHint: 'n' },
    stop: { type: 'string', description: 'Stop before this text (repeatable)', valueHint: 'text' },
    user: {
      type: 'string',
      description: 'End user; experiments keep a user in one variant',
      valueHint: 'id',
    },
    system: { type: 'string', description: 'System message', valueHint: 'text' },
    strict: { type: 'boolean', description: 'Only this exact name: no ancestor answers for it' },
    with: {
      type: 'string',
      description: 'Adapters to add, each with a scale (default 1): style=0.5,tone',
      valueHint: 'names',
    },
  },
  async run({ args, rawArgs, output }) {
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'key') });
    const settings = {
      model: args.name === 'base' && connection.base !== undefined ? connection.base : args.name,
      ...number(args['max-tokens'], 'max_tokens', '--max-tokens'),
      ...number(args.temperature, 'temperature', '--temperature'),
      ...number(args['top-p'], 'top_p', '--top-p'),
      ...number(args.seed, 'seed', '--seed'),
      ...(args.stop === undefined ? {} : { stop: repeatedFlag(rawArgs, 'stop') }),
      ...(args.user === undefined ? {} : { user: args.user }),
      ...(args.strict === true ? { strict: true } : {}),
      ...(args.with === undefined ? {} : { adapters: parseWith(args.with) }),
    };
    const system: ChatMessage[] = args.system === undefined ? [] : [{ role: 'system', content: args.system }];
    const prompt = args._.slice(1).join(' ');
    if (prompt !== '') {
      const messages = [...system, { role: 'user' as const, content: prompt }];
      await ask({ client, output, settings, messages, tellSpeed: true });
    } else if (process.stdin.isTTY) {
      await converse({ client, output, settings, system: args.system });
    } else {
      const piped = (await readAll(process.stdin)).trim();
      if (piped === '') throw usageError('No prompt. Give one, or pipe one in.');
      await ask({ client, output, settings, messages: [...system, { role: 'user', content: piped }] });
    }
  },
});

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
      throw usageError(`--with takes names and scales, such as style=0.5,tone, not '${entry}'.`);
    return { name, scale: number };
  });
}
