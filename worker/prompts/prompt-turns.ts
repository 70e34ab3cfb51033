import { MAX_KEPT_TEXT, type KeptText } from '../../protocol/index.ts';

type Turn = KeptText['prompt'][number];
type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/**
 * What a request says, whatever API it came by, at most {@link MAX_KEPT_TEXT} characters: the last messages of a long
 * prompt are the ones that were answered.
 * @param request as the client API takes it, checked.
 */
export function promptTurns(request: unknown): Pick<KeptText, 'prompt' | 'prompt_cut'> {
  const turns = turnsOf(isFields(request) ? request : {});
  const prompt: Turn[] = [];
  let room = MAX_KEPT_TEXT;
  let cut = false;
  for (const { role, text } of turns.reverse()) {
    cut ||= text.length > room;
    if (room === 0) break;
    prompt.push({ role, text: cutText(text, room) });
    room -= Math.min(room, text.length);
  }
  return { prompt: prompt.reverse(), prompt_cut: cut };
}

/** @returns the beginning, without half of a character at its end. */
export const cutText = (text: string, characters: number): string =>
  text.length <= characters ? text : text.slice(0, characters).replace(/[\uD800-\uDBFF]$/, '');

function turnsOf({ tools, system, instructions, messages, prompt, input }: Fields): Turn[] {
  const said = messages ?? input ?? prompt;
  return [
    ...(Array.isArray(tools) && tools.length > 0 ? [{ role: 'tools', text: JSON.stringify(tools) }] : []),
    ...(system == null ? [] : [{ role: 'system', text: contentText(system) }]),
    ...(instructions == null ? [] : [{ role: 'system', text: contentText(instructions) }]),
    ...(said == null ? [] : Array.isArray(said) && !isTokens(said) ? said.flatMap(turnOf) : [user(said)]),
  ];
}

const isTokens = (said: readonly unknown[]): boolean => typeof said[0] === 'number';

const user = (said: unknown): Turn => ({ role: 'user', text: contentText(said) });

/** A message, an item of a response's input, one of several prompts, or a token. */
function turnOf(item: unknown): Turn[] {
  if (!isFields(item)) return [user(item)];
  const { role, type, content, name, arguments: given, output, tool_calls: calls } = item;
  if (type === 'function_call') return [{ role: 'assistant', text: `${String(name)} ${String(given)}` }];
  if (type === 'function_call_output') return [{ role: 'tool', text: contentText(output) }];
  const lines = [
    ...(content == null || content === '' ? [] : [contentText(content)]),
    ...(Array.isArray(calls) ? calls.map(callText) : []),
  ];
  return [{ role: typeof role === 'string' ? role : 'user', text: lines.join('\n') }];
}

const callText = (call: unknown): string =>
  isFields(call) && isFields(call['function'])
    ? `${String(call['function']['name'])} ${String(call['function']['arguments'])}`
    : JSON.stringify(call);

/** Parts that are no text are JSON. */
function contentText(content: unknown): string {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content) || isTokens(content)) return JSON.stringify(content) ?? '';
  return content.map(partText).join('\n');
}

function partText(part: unknown): string {
  if (!isFields(part)) return typeof part === 'string' ? part : JSON.stringify(part);
  const { type, text, name, input, content } = part;
  if (typeof text === 'string') return text;
  if (type === 'tool_use') return `${String(name)} ${JSON.stringify(input)}`;
  if (type === 'tool_result' && content != null) return contentText(content);
  return JSON.stringify(part);
}
