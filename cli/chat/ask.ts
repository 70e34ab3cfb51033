import type { ChatMessage } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError } from '../cli-error.ts';
import { harmless } from '../harmless-text.ts';
import { colors, terminalWidth, type Output } from '../output.ts';
import { FlowText } from './flow-text.ts';
import { readChatStream } from './read-chat-stream.ts';
import { servedBy, servedNote } from './served-by.ts';

/** Fields of the request beside its messages. */
export type Settings = { model: string } & Record<string, unknown>;

/**
 * One turn, streamed to stdout. @returns the answer's text.
 * @throws CliError what the server says; `stream_cut` when the answer broke off.
 */
export async function ask(params: {
  client: ApiClient;
  output: Output;
  settings: Settings;
  messages: readonly ChatMessage[];
  signal?: AbortSignal;
}): Promise<string> {
  const { client, output, settings, messages, signal } = params;
  const response = await client.send(`run ${settings.model}`, '/v1/chat/completions', {
    method: 'POST',
    body: JSON.stringify({ ...settings, messages, stream: true, stream_options: { include_usage: true } }),
    ...(signal === undefined ? {} : { signal }),
  });
  if (response.body === null) throw new CliError({ message: 'The server sent no answer.' });
  const served = servedBy(response.headers);
  const note = servedNote(settings.model, served);
  if (note !== null) output.note(colors.dim(note));
  const width = terminalWidth();
  const flow = width === null ? null : new FlowText(width);
  const write = (text: string): void => {
    if (!output.json && text !== '') process.stdout.write(text);
  };
  try {
    const { text, usage } = await readChatStream(response.body, (piece) =>
      write(flow === null ? piece : flow.push(harmless(piece))),
    );
    write(`${flow?.end() ?? ''}\n`);
    if (output.json) output.result({ model: settings.model, ...served, text, usage }, () => '');
    return text;
  } catch (error) {
    // What came before it broke off, or was ended, is shown.
    write(`${flow?.end() ?? ''}\n`);
    throw error;
  }
}
