import {
  messagesError,
  type FinishReason,
  type MessagesAnswer,
  type MessagesContent,
  type MessagesEvent,
  type MessagesStopReason,
  type MessagesUsage,
  type Usage,
} from '../../protocol/index.ts';
import type { CompletionFormat, FormatParams } from './completion-formats.ts';
import { type AnswerPiece, ToolCallReader } from './answer-form.ts';

/**
 * An answer as Anthropic's Messages API writes it: one choice, whose text and calls are blocks.
 * @param prompted tokens of the prompt, which its first event says.
 */
export function messagesFormat(
  params: Pick<FormatParams, 'id' | 'model' | 'calls'> & { prompted: number },
): CompletionFormat {
  const reader = params.calls === null ? null : new ToolCallReader(params.calls);
  const read = (text: string): AnswerPiece[] =>
    reader?.push(text) ?? (text === '' ? [] : [{ kind: 'text', text }]);
  const callId = (at: number): string => `toolu_${params.id.slice(0, 20)}${at.toString(36).padStart(4, '0')}`;
  const answer = (
    rest: Pick<MessagesAnswer, 'content' | 'usage'> & Partial<MessagesAnswer>,
  ): MessagesAnswer => ({
    id: `msg_${params.id}`,
    type: 'message',
    role: 'assistant',
    model: params.model,
    stop_reason: null,
    stop_sequence: null,
    ...rest,
  });
  const endOf = (
    reason: FinishReason,
    stop?: string,
  ): Pick<MessagesAnswer, 'stop_reason' | 'stop_sequence'> => {
    const stop_reason: MessagesStopReason =
      reason === 'length'
        ? 'max_tokens'
        : stop !== undefined
          ? 'stop_sequence'
          : reader?.called === true
            ? 'tool_use'
            : 'end_turn';
    return { stop_reason, stop_sequence: stop ?? null };
  };
  let ended = endOf('stop');
  /** Blocks that have begun, and what the last one is, if it is open. */
  let blocks = 0;
  let open: 'text' | 'tool_use' | null = null;

  const close = (): MessagesEvent[] => {
    const events: MessagesEvent[] = open === null ? [] : [{ type: 'content_block_stop', index: blocks - 1 }];
    open = null;
    return events;
  };
  const begin = (content_block: MessagesContent): MessagesEvent[] => {
    const events = close();
    blocks += 1;
    open = content_block.type;
    return [...events, { type: 'content_block_start', index: blocks - 1, content_block }];
  };
  const said = (piece: AnswerPiece): MessagesEvent[] => {
    if (piece.kind === 'call')
      return begin({ type: 'tool_use', id: callId(blocks), name: piece.name, input: {} });
    const before = piece.kind === 'text' && open !== 'text' ? begin({ type: 'text', text: '' }) : [];
    const delta =
      piece.kind === 'text'
        ? { type: 'text_delta' as const, text: piece.text }
        : { type: 'input_json_delta' as const, partial_json: piece.text };
    return [...before, { type: 'content_block_delta', index: blocks - 1, delta }];
  };

  return {
    named: true,
    opening: () => {
      const usage = usageOf({ prompt_tokens: params.prompted, completion_tokens: 0 });
      return [{ type: 'message_start', message: answer({ content: [], usage }) } satisfies MessagesEvent];
    },
    piece: (_choice, event) => (event.kind === 'prompt' ? [] : read(event.text).flatMap(said)),
    heartbeat: { type: 'ping' } satisfies MessagesEvent,
    closing(_choice, finishReason, stop) {
      const rest = reader?.flush() ?? [];
      ended = endOf(finishReason, stop);
      const events = rest.flatMap(said);
      // An answer has a block, if an empty one.
      if (blocks === 0) events.push(...begin({ type: 'text', text: '' }));
      return [...events, ...close()];
    },
    ending: (usage) => [
      { type: 'message_delta', delta: ended, usage: usageOf(usage) } satisfies MessagesEvent,
      { type: 'message_stop' } satisfies MessagesEvent,
    ],
    failure: messagesError,
    whole(answers, usage) {
      const { text, finishReason, stop } = answers[0]!;
      const content = contentOf([...read(text), ...(reader?.flush() ?? [])], callId);
      return answer({ content, usage: usageOf(usage), ...endOf(finishReason, stop) });
    },
  };
}

/** @param callId of the block at a place. */
function contentOf(pieces: readonly AnswerPiece[], callId: (at: number) => string): MessagesContent[] {
  const blocks: ({ kind: 'text'; text: string } | { kind: 'call'; name: string; json: string })[] = [];
  for (const piece of pieces) {
    const last = blocks.at(-1);
    if (piece.kind === 'call') blocks.push({ kind: 'call', name: piece.name, json: '' });
    else if (piece.kind === 'arguments') {
      if (last?.kind === 'call') last.json += piece.text;
    } else if (last?.kind === 'text') last.text += piece.text;
    else blocks.push({ kind: 'text', text: piece.text });
  }
  if (blocks.length === 0) return [{ type: 'text', text: '' }];
  return blocks.map((block, at) =>
    block.kind === 'text'
      ? { type: 'text', text: block.text }
      : { type: 'tool_use', id: callId(at), name: block.name, input: inputOf(block.json) },
  );
}

/** An answer that was cut has a part of it: there is no object then. */
function inputOf(json: string): Record<string, unknown> {
  try {
    return JSON.parse(json) as Record<string, unknown>;
  } catch {
    return {};
  }
}

/** As Anthropic counts: what was kept is not among the input's tokens. */
const usageOf = (usage: Omit<Usage, 'total_tokens'>): MessagesUsage => ({
  input_tokens: usage.prompt_tokens - (usage.prompt_tokens_details?.cached_tokens ?? 0),
  output_tokens: usage.completion_tokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
});
