import {
  messagesError,
  type FinishReason,
  type MessagesAnswer,
  type MessagesEvent,
  type MessagesStopReason,
  type MessagesUsage,
  type Usage,
} from '../../protocol/index.ts';
import type { CompletionFormat, FormatParams } from './completion-format.ts';

const STOP_REASONS: Record<FinishReason, MessagesStopReason> = {
  stop: 'end_turn',
  length: 'max_tokens',
};

/**
 * An answer as Anthropic's Messages API writes it: one choice, whose text is one block.
 * @param prompted tokens of the prompt, which its first event says.
 */
export function messagesFormat(
  params: Pick<FormatParams, 'id' | 'model'> & { prompted: number },
): CompletionFormat {
  const events = (...sent: MessagesEvent[]): MessagesEvent[] => sent;
  const answer = (rest: Pick<MessagesAnswer, 'content' | 'stop_reason' | 'usage'>): MessagesAnswer => ({
    id: `msg_${params.id}`,
    type: 'message',
    role: 'assistant',
    model: params.model,
    stop_sequence: null,
    ...rest,
  });
  let stopReason: MessagesStopReason = 'end_turn';

  return {
    named: true,
    opening: () => {
      const usage = usageOf({ prompt_tokens: params.prompted, completion_tokens: 0 });
      return events(
        { type: 'message_start', message: answer({ content: [], stop_reason: null, usage }) },
        { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      );
    },
    piece(_choice, event) {
      if (event.kind === 'prompt' || event.text === '') return [];
      const delta = { type: 'text_delta', text: event.text } as const;
      return events({ type: 'content_block_delta', index: 0, delta });
    },
    heartbeat: () => events({ type: 'ping' }),
    closing(_choice, finishReason) {
      stopReason = STOP_REASONS[finishReason];
      return events({ type: 'content_block_stop', index: 0 });
    },
    ending: (usage) =>
      events(
        {
          type: 'message_delta',
          delta: { stop_reason: stopReason, stop_sequence: null },
          usage: usageOf(usage),
        },
        { type: 'message_stop' },
      ),
    failure: messagesError,
    whole(answers, usage) {
      const { text, finishReason } = answers[0]!;
      return answer({
        content: [{ type: 'text', text }],
        stop_reason: STOP_REASONS[finishReason],
        usage: usageOf(usage),
      });
    },
  };
}

const usageOf = (usage: Pick<Usage, 'prompt_tokens' | 'completion_tokens'>): MessagesUsage => ({
  input_tokens: usage.prompt_tokens,
  output_tokens: usage.completion_tokens,
  cache_creation_input_tokens: 0,
  cache_read_input_tokens: 0,
});
