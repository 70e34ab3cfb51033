import { describe, expect, it } from 'vitest';
import { hasToken } from '../../../worker/origins/connection.ts';

const frames = (...events: object[]) =>
  new TextEncoder().encode(events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(''));

describe('the first event with content', () => {
  it.each<[string, object, object]>([
    [
      'chat',
      { choices: [{ delta: { role: 'assistant', content: '' } }] },
      { choices: [{ delta: { content: 'a' } }] },
    ],
    ['text', { choices: [{ text: '' }] }, { choices: [{ text: 'a' }] }],
    [
      'responses',
      { type: 'response.output_text.delta', delta: '' },
      { type: 'response.output_text.delta', delta: 'a' },
    ],
    [
      'messages',
      { type: 'message_start', message: { type: 'message', content: [] } },
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'a' } },
    ],
    [
      'messages without a text',
      { type: 'ping' },
      { type: 'message_delta', delta: { stop_reason: 'end_turn' } },
    ],
  ])('of %s', (_api, opening, token) => {
    expect(hasToken(frames(opening))).toBe(false);
    expect(hasToken(frames(opening, token))).toBe(true);
  });
});
