/** Functions that a model may ask its caller to call, in the shapes of chat completions and of responses. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import { isMap, short, unsupported } from './parse-body.ts';
import { JsonSchema } from './answer-fields.ts';

export const MAX_TOOLS = 128;
/** Calls that one message has; a model that asks for more goes in circles. */
export const MAX_TOOL_CALLS = 64;
/** Of a call's arguments, characters. */
const MAX_ARGUMENTS = 262_144;
const MAX_CALL_ID = 128;
/** OpenAI's syntax of a function's name. */
const functionName = z.string().regex(/^[A-Za-z0-9_-]{1,64}$/, 'must be 1 to 64 of A-Z a-z 0-9 _ -');

const functionFields = {
  name: functionName,
  description: z.string().nullish(),
  parameters: JsonSchema.nullish(),
  /** Its arguments are held to its schema, whose every keyword must be understood; otherwise to JSON at least. */
  strict: z.boolean().nullish(),
};
export const FunctionDefinition = z.strictObject(functionFields);
export type FunctionDefinition = z.infer<typeof FunctionDefinition>;

const functionType = z.literal('function', "must be 'function': there are no other tools here");
export const ChatTool = z.strictObject({ type: functionType, function: FunctionDefinition });
export const ResponseTool = z.strictObject({ type: functionType, ...functionFields });
export type ResponseTool = z.infer<typeof ResponseTool>;

const modes = z.enum(['none', 'auto', 'required']);
const choiceError = "must be 'none', 'auto', 'required' or a function";
export const ChatToolChoice = z.union(
  [modes, z.strictObject({ type: z.literal('function'), function: z.strictObject({ name: functionName }) })],
  choiceError,
);
export const ResponseToolChoice = z.union(
  [modes, z.strictObject({ type: z.literal('function'), name: functionName })],
  choiceError,
);
export type ResponseToolChoice = z.infer<typeof ResponseToolChoice>;

export const chatToolFields = {
  tools: z.array(ChatTool).max(MAX_TOOLS).nullish(),
  tool_choice: ChatToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};
export const responseToolFields = {
  tools: z.array(ResponseTool).max(MAX_TOOLS).nullish(),
  tool_choice: ResponseToolChoice.nullish(),
  parallel_tool_calls: z.boolean().nullish(),
};

const callArguments = z.string().max(MAX_ARGUMENTS);

/** A call in an assistant's message, as it was answered. Clients add fields of their own. */
export const ToolCall = z.object({
  id: z.string().max(MAX_CALL_ID).optional(),
  type: z.literal('function').optional(),
  function: z.object({ name: z.string().min(1).max(64), arguments: callArguments }),
});
export type ToolCall = z.infer<typeof ToolCall>;

/** The same as an item of a response's input. */
export const FunctionCallItem = z.object({
  type: z.literal('function_call'),
  call_id: z.string().min(1).max(MAX_CALL_ID),
  name: z.string().min(1).max(64),
  arguments: callArguments,
});
export const FunctionOutputItem = z.object({
  type: z.literal('function_call_output'),
  call_id: z.string().min(1).max(MAX_CALL_ID),
  output: z.union(
    [z.string(), z.array(z.object({ type: z.literal('input_text'), text: z.string() }))],
    'must be a string or an array of input_text parts',
  ),
});

/** What a request says of tools, whatever its shape. */
export interface ToolUse {
  readonly functions: readonly FunctionDefinition[];
  /** `auto`: the model may answer with text; a name: this function and no other. */
  readonly choice: 'auto' | 'required' | { readonly name: string };
  /** Several calls in one answer. */
  readonly parallel: boolean;
}

interface ToolRequest {
  tools?: readonly (z.infer<typeof ChatTool> | ResponseTool)[] | null | undefined;
  tool_choice?: z.infer<typeof ChatToolChoice> | ResponseToolChoice | null | undefined;
  parallel_tool_calls?: boolean | null | undefined;
}

const functionOf = (tool: z.infer<typeof ChatTool> | ResponseTool): FunctionDefinition => {
  if ('function' in tool) return tool.function;
  const { type: _type, ...definition } = tool;
  return definition;
};

const chosenName = (choice: ToolRequest['tool_choice']): string | null =>
  typeof choice !== 'object' || choice === null
    ? null
    : 'function' in choice
      ? choice.function.name
      : choice.name;

/** @returns null when the model is to call none. */
export function toolUseOf({ tools, tool_choice: choice, parallel_tool_calls }: ToolRequest): ToolUse | null {
  if (tools == null || tools.length === 0 || choice === 'none') return null;
  const name = chosenName(choice);
  return {
    functions: tools.map(functionOf),
    choice: name !== null ? { name } : choice === 'required' ? 'required' : 'auto',
    parallel: parallel_tool_calls ?? true,
  };
}

/** For a schema of requests: names are there once, and the chosen one is there. */
export function checkTools(request: ToolRequest, context: z.RefinementCtx): void {
  const names = (request.tools ?? []).map((tool) => functionOf(tool).name);
  const complain = (message: string, path: PropertyKey[]): void =>
    context.addIssue({ code: 'custom', message, path });
  const repeated = names.findIndex((name, at) => names.indexOf(name) < at);
  if (repeated !== -1) complain(`there are two functions '${names[repeated]!}'`, ['tools', repeated]);
  const chosen = chosenName(request.tool_choice);
  if (request.tool_choice === 'required' && names.length === 0)
    complain("'required' needs 'tools'", ['tool_choice']);
  if (chosen !== null && !names.includes(chosen))
    complain(`there is no function '${chosen}' in 'tools'`, ['tool_choice']);
}

/** Tools that OpenAI runs, and there are none here: refused where they stand. */
export function refuseTools(tools: unknown): ApiError | null {
  if (!Array.isArray(tools)) return null;
  for (const [at, tool] of tools.entries()) {
    const type: unknown = isMap(tool) ? tool['type'] : undefined;
    if (typeof type === 'string' && type !== 'function')
      return unsupported(`tools[${at}].type`, 'it calls functions alone', `A tool of type '${short(type)}'`);
  }
  return null;
}
