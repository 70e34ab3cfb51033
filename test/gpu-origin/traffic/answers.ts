/** What answers say, streamed or not, so that they can be compared. */
type Json = Record<string, unknown>;
interface Logprobs {
  [field: string]: unknown[] | null;
}

/** Dates, which differ. */
export function timeless(body: unknown): unknown {
  return JSON.parse(
    JSON.stringify(body, (key, value: unknown) =>
      ['created', 'created_at', 'completed_at'].includes(key) ? 0 : value,
    ),
  ) as unknown;
}

/** Without what says how much was found again, and without lists of no log-probabilities, which no stream has. */
export function uncached(body: unknown): unknown {
  const copy = structuredClone(body) as {
    usage?: Json & { input_tokens?: number };
    choices?: { logprobs: Logprobs | null }[];
  };
  for (const choice of copy.choices ?? [])
    if (Object.values(choice.logprobs ?? {}).every((values) => values === null || values.length === 0))
      choice.logprobs = null;
  if (copy.usage === undefined) return copy;
  const {
    prompt_tokens_details: _found,
    input_tokens_details: _kept,
    cache_read_input_tokens: cached,
    ...usage
  } = copy.usage;
  // Anthropic's count leaves them out.
  if (cached !== undefined) usage.input_tokens = Number(usage.input_tokens) + Number(cached);
  return { ...copy, usage };
}

export interface StreamEvent {
  name: string | null;
  data: unknown;
}

export function eventsOf(text: string): StreamEvent[] {
  return text.split('\n\n').flatMap((block) => {
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (data === undefined) return [];
    const name = /^event: (.*)$/m.exec(block)?.[1] ?? null;
    return [{ name, data: data === '[DONE]' ? null : (JSON.parse(data) as unknown) }];
  });
}

/** What a stream has said, as the whole answer would have it; a string where it has failed. */
export function wholeOf(path: string, events: readonly StreamEvent[]): unknown {
  const failed = events.find(
    ({ data }) => (data as Json | null)?.['error'] != null && !('response' in (data as Json)),
  );
  if (failed !== undefined) return `failed: ${JSON.stringify(failed.data)}`;
  if (path === '/v1/responses') {
    const last = events.at(-1)?.data as { type: string; response: unknown } | undefined;
    if (last?.type === 'response.failed') return `failed: ${JSON.stringify(last)}`;
    return last?.response;
  }
  return path === '/v1/messages' ? wholeMessage(events) : wholeChoices(path, events);
}

interface ChunkChoice {
  index: number;
  text?: string;
  delta?: {
    role?: string;
    content?: string | null;
    tool_calls?: {
      index: number;
      id?: string;
      type?: string;
      function: { name?: string; arguments?: string };
    }[];
  };
  logprobs?: Logprobs | null;
  finish_reason: string | null;
}

function wholeChoices(path: string, events: readonly StreamEvent[]): unknown {
  const isChat = path === '/v1/chat/completions';
  const choices: Json[] = [];
  let usage: unknown;
  let head: Json = {};
  for (const { data } of events) {
    if (data === null) continue;
    const { choices: parts, usage: used, ...rest } = data as Json & { choices: ChunkChoice[] };
    head = rest;
    usage = used ?? usage;
    for (const part of parts) {
      const choice = (choices[part.index] ??= {
        index: part.index,
        text: '',
        logprobs: null,
        calls: [],
        finish_reason: null,
      });
      choice['text'] = (choice['text'] as string) + (part.text ?? part.delta?.content ?? '');
      for (const call of part.delta?.tool_calls ?? []) {
        const calls = choice['calls'] as {
          id: unknown;
          type: unknown;
          function: { name: string; arguments: string };
        }[];
        if (call.function.name !== undefined)
          calls[call.index] = {
            id: call.id,
            type: call.type,
            function: { name: call.function.name, arguments: '' },
          };
        calls[call.index]!.function.arguments += call.function.arguments ?? '';
      }
      if (part.logprobs != null) {
        const all = (choice['logprobs'] ??= {}) as Logprobs;
        for (const [field, values] of Object.entries(part.logprobs))
          all[field] = values === null ? null : [...(all[field] ?? []), ...values];
      }
      if (part.finish_reason !== null) {
        if (choice['finish_reason'] !== null) return `failed: choice ${part.index} ended twice`;
        choice['finish_reason'] = part.finish_reason;
      }
    }
  }
  return {
    ...head,
    object: isChat ? 'chat.completion' : 'text_completion',
    choices: choices.map(({ text: said, calls, ...rest }) => {
      if (!isChat) return { ...rest, text: said };
      const made = calls as unknown[];
      const message = {
        role: 'assistant',
        content: said === '' && made.length > 0 ? null : said,
        refusal: null,
        ...(made.length === 0 ? {} : { tool_calls: made }),
      };
      return { ...rest, message };
    }),
    usage,
  };
}

function wholeMessage(events: readonly StreamEvent[]): unknown {
  let message: Json = {};
  const content: Json[] = [];
  const inputs: string[] = [];
  let stopped = false;
  for (const { data } of events) {
    const event = data as Json & {
      type: string;
      index: number;
      delta: Json;
      content_block: Json;
      message: Json;
      usage: Json;
    };
    if (event.type === 'message_start') message = { ...event.message };
    if (event.type === 'content_block_start')
      [content[event.index], inputs[event.index]] = [{ ...event.content_block }, ''];
    if (event.type === 'content_block_delta') {
      const block = content[event.index]!;
      if (event.delta['type'] === 'text_delta')
        block['text'] = String(block['text']) + String(event.delta['text']);
      else inputs[event.index] += String(event.delta['partial_json']);
    }
    if (event.type === 'message_delta') Object.assign(message, event.delta, { usage: event.usage });
    if (event.type === 'message_stop') stopped = true;
  }
  if (!stopped) return 'failed: no end';
  for (const [at, block] of content.entries()) {
    if (block['type'] !== 'tool_use') continue;
    try {
      block['input'] = JSON.parse(inputs[at]!) as unknown;
    } catch {
      block['input'] = {};
    }
  }
  return { ...message, content };
}
