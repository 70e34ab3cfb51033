/**
 * Tools in a conversation: by the base's own template where it knows them, else as Hermes writes them (NousResearch's
 * function calling format, which Qwen 2.5's template has too): a block in the system message, calls in `<tool_call>`,
 * results in a user's turn in `<tool_response>`.
 */
/** `hermes`: `<tool_call>{"name", "arguments"}</tool_call>`. `json`: `{"name", "parameters"}` is the whole answer. */
export type ToolFormat = 'hermes' | 'json';

export interface TemplateCall {
  id?: string;
  name: string;
  /** An object where it is one, else what was sent. */
  arguments: unknown;
}

export interface TemplateMessage {
  role: string;
  content: string;
  /** Of an assistant: what it asked for. */
  calls?: readonly TemplateCall[];
  /** Of a tool: the call that it answers. */
  callId?: string;
  /** Who of several speaks; of a tool: the function's. */
  name?: string | undefined;
  /** A user's turn that is made of results. */
  results?: boolean;
}

/** A function as templates list it. */
export interface TemplateTool {
  type: 'function';
  function: { name: string; description: string; parameters: unknown };
}

/** How a base writes calls, and whether its template does the rest. */
export interface TemplateTools {
  format: ToolFormat;
  native: boolean;
}

/** In the template's own JSON, or in a string of Jinja. */
const JSON_ARGUMENTS = /\\?"arguments\\?": /;

/** @param source of the template. What writes calls in a way that is not read here is given Hermes'. */
export function toolsOfTemplate(source: string): TemplateTools {
  if (!/\btools\b/.test(source)) return { format: 'hermes', native: false };
  // Between the same tags GLM and Qwen3-Coder write XML, which is not read here.
  if (source.includes('<tool_call>') && JSON_ARGUMENTS.test(source))
    return { format: 'hermes', native: /\btool_calls\b/.test(source) };
  const json = source.includes('"parameters": ') && /\bipython\b/.test(source);
  return json ? { format: 'json', native: true } : { format: 'hermes', native: false };
}

const INSTRUCTIONS = `You may call functions to answer. They are described within <tools></tools>:
<tools>
{tools}
</tools>
For each call, answer with a JSON object of the function's name and its arguments within <tool_call></tool_call>:
<tool_call>
{"name": <name>, "arguments": <arguments>}
</tool_call>`;

/** A conversation for a template that knows no tools. */
export function withoutTools(
  messages: readonly TemplateMessage[],
  tools: readonly TemplateTool[],
): TemplateMessage[] {
  const plain: TemplateMessage[] = [];
  for (const message of messages) {
    if (message.role === 'tool') {
      const result = `<tool_response>\n${message.content}\n</tool_response>`;
      const last = plain.at(-1);
      // Results of one message's calls are one turn.
      if (last?.role === 'user' && last.results === true) last.content += `\n${result}`;
      else plain.push({ role: 'user', content: result, results: true });
    } else if (message.calls === undefined) plain.push({ ...message });
    else {
      const calls = message.calls.map(
        ({ name, arguments: given }) =>
          // As answers are held to it (grammar/tool-grammar.ts), so that a call reads as it was written.
          `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": ${JSON.stringify(given)}}\n</tool_call>`,
      );
      const text = message.content === '' ? [] : [message.content];
      plain.push({ role: message.role, content: [...text, ...calls].join('\n') });
    }
  }
  if (tools.length === 0) return plain;
  const block = INSTRUCTIONS.replace('{tools}', () => tools.map((tool) => JSON.stringify(tool)).join('\n'));
  const [first] = plain;
  if (first?.role === 'system') first.content = `${first.content}\n\n${block}`;
  else plain.unshift({ role: 'system', content: block });
  return plain;
}

/** A message as templates that know tools have it. */
export const asTemplateMessage = ({ role, content, calls, callId, name }: TemplateMessage): object => ({
  role,
  content,
  ...(calls === undefined
    ? {}
    : {
        tool_calls: calls.map((call) => ({
          ...(call.id === undefined ? {} : { id: call.id }),
          type: 'function',
          function: { name: call.name, arguments: call.arguments },
        })),
      }),
  ...(callId === undefined ? {} : { tool_call_id: callId }),
  ...(name === undefined ? {} : { name }),
});
