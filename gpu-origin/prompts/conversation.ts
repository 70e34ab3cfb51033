/** What a request says, as chat templates have it. */
import {
  type ChatCompletionRequest,
  type ChatMessage,
  isMap,
  type ResponseRequest,
  toolUseOf,
} from '../../protocol/index.ts';
import type { TemplateMessage } from '../model/chat-template.ts';
import type { TemplateCall, TemplateTool } from '../model/chat-template-tools.ts';

type Conversation = Pick<ChatCompletionRequest, 'messages'> | Pick<ResponseRequest, 'input' | 'instructions'>;

export function conversationOf(request: Conversation): TemplateMessage[] {
  return 'messages' in request ? request.messages.map(ofMessage) : ofResponse(request);
}

/** Functions that may be called; none when the model is to call none. */
export function templateTools(request: ChatCompletionRequest | ResponseRequest): TemplateTool[] {
  return (toolUseOf(request)?.functions ?? []).map(({ name, description, parameters }) => ({
    type: 'function',
    function: {
      name,
      description: description ?? '',
      parameters: parameters ?? { type: 'object', properties: {} },
    },
  }));
}

const textOf = (content: string | readonly { text: string }[]): string =>
  typeof content === 'string' ? content : content.map(({ text }) => text).join('');

function ofMessage({
  role,
  content,
  name,
  tool_calls: calls,
  tool_call_id: callId,
}: ChatMessage): TemplateMessage {
  return {
    role: role === 'developer' ? 'system' : role,
    content: textOf(content),
    ...(calls === undefined
      ? {}
      : { calls: calls.map(({ id, function: { name: of, arguments: json } }) => callOf(id, of, json)) }),
    ...(role === 'tool' && callId !== undefined ? { callId } : {}),
    ...(name === undefined ? {} : { name }),
  };
}

/** Templates write arguments as JSON themselves. */
function callOf(id: string | undefined, name: string, json: string): TemplateCall {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    parsed = json;
  }
  return { ...(id === undefined ? {} : { id }), name, arguments: isMap(parsed) ? parsed : json };
}

/** Its instructions come first, as the developer's; calls stand in the assistant's message before them. */
function ofResponse({
  input,
  instructions,
}: Pick<ResponseRequest, 'input' | 'instructions'>): TemplateMessage[] {
  const messages: TemplateMessage[] = instructions == null ? [] : [{ role: 'system', content: instructions }];
  for (const item of typeof input === 'string' ? [{ role: 'user' as const, content: input }] : input) {
    if ('role' in item) {
      messages.push(ofMessage({ role: item.role, content: textOf(item.content) }));
      continue;
    }
    if (item.type === 'function_call_output') {
      messages.push({ role: 'tool', content: textOf(item.output), callId: item.call_id });
      continue;
    }
    const call = callOf(item.call_id, item.name, item.arguments);
    const last = messages.at(-1);
    if (last?.role === 'assistant')
      messages[messages.length - 1] = { ...last, calls: [...(last.calls ?? []), call] };
    else messages.push({ role: 'assistant', content: '', calls: [call] });
  }
  return messages;
}
