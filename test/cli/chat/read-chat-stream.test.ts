import { describe, expect, it } from 'vitest';
import { readChatStream, speedText } from '../../../cli/chat/ask.ts';

const bodyOf = (...pieces: string[]) => new Response(pieces.join('')).body as ReadableStream<Uint8Array>;
const chunk = (content: string) =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }], usage: null })}\n\n`;

describe('readChatStream', () => {
  it('returns chunks as they arrive, and the usage at the end', async () => {
    const heard: string[] = [];
    const usage = { prompt_tokens: 3, completion_tokens: 2, total_tokens: 5 };
    const body = bodyOf(
      ': ping\n\n',
      chunk('Hel'),
      chunk('lo'),
      `data: ${JSON.stringify({ choices: [], usage })}\n\n`,
      'data: [DONE]\n\n',
    );
    expect(await readChatStream(body, (text) => heard.push(text))).toEqual({ text: 'Hello', usage });
    expect(heard).toEqual(['Hel', 'lo']);
  });

  it('fails on an error in the stream', async () => {
    const body = bodyOf(chunk('a'), 'data: {"error":{"message":"too late","code":"deadline_exceeded"}}\n\n');
    await expect(readChatStream(body, () => undefined)).rejects.toMatchObject({
      message: 'too late',
      code: 'deadline_exceeded',
    });
  });

  it('fails when the stream is cut', async () => {
    await expect(readChatStream(bodyOf(chunk('a')), () => undefined)).rejects.toMatchObject({
      code: 'stream_cut',
    });
  });
});

it('shows the speed of an answer from its first token on', () => {
  expect(speedText(55, 3_000)).toBe('55 tokens, 18.0 a second');
  expect([speedText(1, 20), speedText(0, 0)]).toEqual(['1 token', '0 tokens']);
});
