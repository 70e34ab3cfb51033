import { createInterface } from 'node:readline/promises';
import type { ChatMessage } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { harmless } from '../harmless-text.ts';
import { colors, type Output } from '../output.ts';
import { ask, type Settings } from './ask.ts';
import { HISTORY_LINES, readHistory, writeHistory } from './history-file.ts';
import { CONVERSATION_HELP, readTurn } from './slash-command.ts';
import { PASTE_OFF, PASTE_ON, TerminalInput, withLineBreaks } from './terminal-input.ts';

/**
 * Turns from a terminal until its end (Ctrl-D or `/exit`); what was said is kept. Ctrl-C ends an answer, then empties
 * the line, then ends.
 * @param system its message; undefined for none.
 * @throws CliError when the key is refused; other failures are shown, and the turn can be said again.
 */
export async function converse(params: {
  client: ApiClient;
  output: Output;
  settings: Settings;
  system: string | undefined;
}): Promise<void> {
  const { client, output, settings } = params;
  const input = new TerminalInput(process.stdin);
  process.stdin.pipe(input);
  const history = await readHistory(process.env);
  const terminal = createInterface({
    ...{ input, output: process.stderr, terminal: true },
    ...{ history, historySize: HISTORY_LINES, removeHistoryDuplicates: true },
  });
  terminal.on('history', (lines: string[]) => void writeHistory(process.env, lines));
  process.stderr.write(PASTE_ON);

  let { system } = params;
  let said: ChatMessage[] = [];
  let answering: AbortController | null = null;
  input.on('interrupt', () => answering?.abort());
  terminal.on('SIGINT', () => {
    if (terminal.line === '') return terminal.close();
    terminal.write(null, { ctrl: true, name: 'u' });
  });

  const answer = async (text: string): Promise<void> => {
    const turn: ChatMessage = { role: 'user', content: text };
    const before: ChatMessage[] = system === undefined ? [] : [{ role: 'system', content: system }];
    answering = new AbortController();
    input.hold();
    try {
      const messages = [...before, ...said, turn];
      const reply = await ask({ client, output, settings, messages, signal: answering.signal });
      said = [...said, turn, { role: 'assistant', content: reply }];
    } catch (error) {
      if (answering.signal.aborted) return;
      if (!(error instanceof CliError) || error.exitCode === EXIT.auth) throw error;
      console.error(`${colors.red('error:')} ${harmless(error.message)}`);
    } finally {
      answering = null;
    }
  };

  terminal.setPrompt(colors.dim(`${settings.model}> `));
  try {
    if (process.stderr.isTTY) output.note(colors.dim('/help says what you can type; Ctrl-D ends.'));
    terminal.prompt();
    for await (const line of terminal) {
      const turn = readTurn(withLineBreaks(line));
      if (turn.kind === 'exit') break;
      if (turn.kind === 'help') output.note(CONVERSATION_HELP);
      else if (turn.kind === 'unknown') output.note(turn.message);
      else if (turn.kind === 'reset') {
        said = [];
        output.note('What was said is forgotten.');
      } else if (turn.kind === 'system') {
        if (turn.text !== null) system = turn.text === 'none' ? undefined : turn.text;
        output.note(system === undefined ? 'There is no system message.' : `system: ${system}`);
      } else if (turn.text.trim() !== '') await answer(turn.text);
      terminal.prompt();
      // Behind the prompt, where they are seen.
      input.release();
    }
  } finally {
    process.stderr.write(PASTE_OFF);
    terminal.close();
    process.stdin.unpipe(input);
    process.stdin.pause();
  }
}
