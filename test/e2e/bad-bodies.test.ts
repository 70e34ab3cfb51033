/** Bodies and headers that are wrong, too large or not the client's to send. */
import { describe, expect, it } from 'vitest';
import { MAX_BODY_BYTES, MAX_MESSAGES } from '../../protocol/limits.ts';
import { SIGNATURE_HEADER } from '../../protocol/signature.ts';
import { TINY_LLAMA } from '../fixtures/tiny-base.ts';
import { bearer, CHAT, chatBody, textOf, useCanaryStack } from './canary-stack.ts';
import { send } from './tiny-stack.ts';

const rig = useCanaryStack();
const CONTEXT = TINY_LLAMA.context;

describe('bodies', () => {
  it.each<[string, string, string | null]>([
    ['nothing', '', null],
    ['no JSON', '{"model":', null],
    ['an array', '[]', null],
    ['null', 'null', null],
    ['no model', '{"messages":[]}', 'model'],
    ['no messages', '{"model":"alice/notes"}', 'messages'],
    ['no message', chatBody({ messages: [] }), 'messages'],
    ['a wrong role', chatBody({ messages: [{ role: 'boss', content: 'a' }] }), 'messages[0].role'],
    [
      'an image',
      chatBody({ messages: [{ role: 'user', content: [{ type: 'image_url' }] }] }),
      'messages[0].content[0].type',
    ],
    ['a temperature', chatBody({ temperature: 2.1 }), 'temperature'],
    ['a type', chatBody({ max_tokens: '12' }), 'max_tokens'],
    ['too small a limit', chatBody({ max_tokens: 0 }), 'max_tokens'],
    ['an infinite number', chatBody().replace('"max_tokens":12', '"max_tokens":1e999'), 'max_tokens'],
    ['what is not supported', chatBody({ web_search_options: { user_location: 'x' } }), 'web_search_options'],
    ['too many stops', chatBody({ stop: Array.from({ length: 33 }, (_, i) => `s${i}`) }), 'stop'],
    ['too long a model', chatBody({ model: 'a'.repeat(513) }), 'model'],
    [
      'too many messages',
      chatBody({
        messages: Array.from({ length: MAX_MESSAGES + 1 }, () => ({ role: 'user', content: 'a' })),
      }),
      'messages',
    ],
  ])('%s: 400 with the field', async (_what, body, param) => {
    const answer = await rig.post(body);
    expect(answer.status).toBe(400);
    expect(answer.error).toMatchObject({ type: 'invalid_request_error', param });
  });

  it.each<[string, Record<string, unknown>, string]>([
    ['an unknown field', { nonsense: 1 }, 'nonsense'],
    ['our own field, which is the edge’s to write', { graft: { chain: [] } }, 'graft'],
    ['too many logprobs', { logprobs: true, top_logprobs: 21 }, 'top_logprobs=20'],
  ])('%s: left out or lowered, and said; refused where that is wanted', async (_what, more, told) => {
    const taken = await rig.post(chatBody(more));
    expect([taken.status, taken.headers['x-graft-ignored']]).toEqual([200, told]);
    expect(textOf(taken)).toBe(rig.text);
    if (told.includes('=')) return;
    const strict = await rig.post(chatBody(more), { headers: { 'x-graft-strict-fields': 'true' } });
    expect(strict.status).toBe(400);
    expect(strict.error).toMatchObject({ code: 'invalid_request', param: told });
  });

  it('bytes that are not UTF-8', async () => {
    const body = Buffer.concat([Buffer.from('{"model":"'), Buffer.of(0xff), Buffer.from('"}')]);
    const answer = await send(rig.stack.local.url, CHAT, { body, headers: bearer(rig.stack.local.key) });
    expect([answer.status, answer.error.code]).toEqual([400, 'invalid_request']);
  });

  it('a prompt that is too long: 400 with the limit; what is asked for beyond it is lowered', async () => {
    const content = 'x'.repeat(CONTEXT);
    const chatAnswer = await rig.chat({ messages: [{ role: 'user', content }] });
    expect(chatAnswer.status).toBe(400);
    expect(chatAnswer.error.code).toBe('context_length_exceeded');
    expect(chatAnswer.error.message).toMatch(
      new RegExp(`maximum context length is ${CONTEXT} tokens. However, the prompt has more than that`),
    );
    const text = (length: number, more: number) =>
      rig.post(
        JSON.stringify({
          model: 'alice/notes',
          prompt: 'x'.repeat(length),
          max_tokens: more,
          temperature: 0,
        }),
        { target: '/v1/completions' },
      );
    expect((await text(CONTEXT - 4, 4)).status).toBe(200);
    const over = await text(CONTEXT - 4, 5);
    expect([over.status, over.headers['x-graft-ignored']]).toEqual([200, 'max_tokens=4']);
    const full = await text(CONTEXT, 1);
    expect(full.error).toMatchObject({ code: 'context_length_exceeded', param: 'prompt' });
    expect(full.error.message).toContain(`the prompt has ${CONTEXT}, which leaves no room`);
  });

  it.each([
    ['at once', (text: string) => text],
    ['in pieces of unknown length', (text: string) => text.match(/[^]{1,65536}/g) ?? []],
  ])('may have a megabyte and not a byte more, %s', async (_how, cut) => {
    const padded = (bytes: number) => chatBody().padEnd(bytes, ' ');
    expect(textOf(await rig.post(cut(padded(MAX_BODY_BYTES))))).toBe(rig.text);
    const over = await rig.post(cut(padded(MAX_BODY_BYTES + 1)));
    expect([over.status, over.error.code]).toEqual([413, 'request_too_large']);
    const full = chatBody({ messages: [{ role: 'user', content: '' }] });
    const content = 'x'.repeat(MAX_BODY_BYTES - full.length);
    const long = await rig.post(cut(chatBody({ messages: [{ role: 'user', content }] })));
    expect([long.status, long.error.code]).toEqual([400, 'context_length_exceeded']);
  });

  it('a number that grows when it is written again', async () => {
    const prompt = Array.from({ length: 150_000 }, () => '1e15').join(',');
    const answer = await rig.post(`{"model":"alice/notes","prompt":[${prompt}]}`, {
      target: '/v1/completions',
    });
    expect([400, 413]).toContain(answer.status);
  });

  it('other methods: 405', async () => {
    for (const target of [CHAT, '/v1/completions', '/admin/promote']) {
      const key = target.startsWith('/admin') ? rig.stack.local.adminKey : rig.stack.local.key;
      const answer = await send(rig.stack.local.url, target, { method: 'DELETE', headers: bearer(key) });
      expect([answer.status, answer.error.code]).toEqual([405, 'method_not_allowed']);
    }
  });
});

describe('headers', () => {
  it('of ours and of the platform change nothing when a client sends them', async () => {
    const plain = await rig.chat();
    const answer = await rig.chat(
      {},
      {
        headers: {
          'x-graft-adapter': 'secret/thing@1',
          'x-graft-chain': 'f'.repeat(64),
          'x-graft-tenant': 'default',
          'x-graft-degraded': 'base',
          [SIGNATURE_HEADER]: 'v1 kid=a,t=1,n=2,h=3,s=4',
          'cf-connecting-ip': '10.0.0.1',
          'cf-ray': 'x',
          'cf-worker': 'evil.example',
          'cf-ew-via': '15',
          'x-forwarded-host': 'evil.example',
        },
      },
    );
    expect(textOf(answer)).toBe(rig.text);
    for (const name of ['x-graft-adapter', 'x-graft-chain', 'x-graft-degraded', 'x-graft-origin'])
      expect(answer.headers[name]).toBe(plain.headers[name]);
    expect(answer.headers['x-graft-adapter']).toBe('alice/notes@1');
  });

  it('an odd request id is replaced', async () => {
    expect((await rig.chat({}, { headers: { 'x-request-id': 'mine-1' } })).headers['x-request-id']).toBe(
      'mine-1',
    );
    for (const id of ['a'.repeat(129), 'a b', '<x>'])
      expect((await rig.chat({}, { headers: { 'x-request-id': id } })).headers['x-request-id']).not.toBe(id);
  });
});
