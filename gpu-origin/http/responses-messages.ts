import type { ChatMessage, ResponseInputItem, ResponseRequest } from '../../protocol/index.ts';

const textOf = (content: ResponseInputItem['content']): string =>
  typeof content === 'string' ? content : content.map((part) => part.text).join('');

/** What a Responses request means as a conversation: its instructions come first, as the developer's. */
export function messagesOf({ input, instructions }: ResponseRequest): ChatMessage[] {
  const items = typeof input === 'string' ? [{ role: 'user' as const, content: input }] : input;
  return [
    ...(instructions == null ? [] : [{ role: 'developer' as const, content: instructions }]),
    ...items.map(({ role, content }) => ({ role, content: textOf(content) })),
  ];
}
