/** An origin's report to the edge of an answer's tokens and its end, beside the answer. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ChatCompletion } from '../../../protocol/completion-answers.ts';
import { readUsageNote, USAGE_COMMENT, USAGE_HEADER, type UsageNote } from '../../../protocol/origin-wire.ts';
import { envelope, events, signedFetch, startTestOrigin, type Origin } from './harness.ts';

let origin: Origin;
/** Ends the answer when it is sampled. */
let end: string;
beforeAll(async () => {
  origin = await startTestOrigin({ signed: true, runner: { logit: () => 0 } });
  end = String([...origin.tokenizer.eosIds][0]);
});
afterAll(() => origin.stop());

const messages = [{ role: 'user', content: 'hello' }];
const ask = (request: object, path = '/v1/chat/completions'): Promise<Response> =>
  signedFetch(origin, path, { body: envelope({ model: 'm', ...request }) });

/** The note in a stream, and what comes before and after it. */
function noted(text: string): { note: UsageNote | null; before: string; after: string } {
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.startsWith(USAGE_COMMENT));
  expect(lines.filter((line) => line.startsWith(USAGE_COMMENT))).toHaveLength(1);
  return {
    note: readUsageNote(lines[at]!.slice(USAGE_COMMENT.length)),
    before: lines.slice(0, at).join('\n'),
    after: lines.slice(at + 1).join('\n'),
  };
}

describe('the usage note', () => {
  it.each(['length', 'stop'] as const)('reports that an answer ended by %s', async (finish) => {
    const bias = finish === 'stop' ? { logit_bias: { [end]: 100 } } : { ignore_eos: true };
    const request = { messages, max_tokens: 4, temperature: 0, ...bias };
    const whole = await ask(request);
    const { usage, choices } = (await whole.json()) as ChatCompletion;
    expect(choices[0]?.finish_reason).toBe(finish);
    const expected: UsageNote = {
      promptTokens: usage.prompt_tokens,
      completionTokens: usage.completion_tokens,
      finish,
    };
    expect(readUsageNote(whole.headers.get(USAGE_HEADER))).toEqual(expected);

    const streamed = await ask({ ...request, stream: true });
    // Before the first token its end is unknown.
    expect(readUsageNote(streamed.headers.get(USAGE_HEADER))).toEqual({
      promptTokens: usage.prompt_tokens,
      completionTokens: null,
    });
    const { note, before, after } = noted(await streamed.text());
    expect(note).toEqual(expected);
    expect(before).toContain(`"finish_reason":"${finish}"`);
    expect(events(after.trimStart())).toEqual(['[DONE]']);
  });

  it.each(['/v1/completions', '/v1/responses'])('is sent with %s too', async (path) => {
    const request = path.endsWith('responses')
      ? { input: 'hello', max_output_tokens: 4 }
      : { prompt: 'hello', max_tokens: 4 };
    const { note } = noted(
      await (await ask({ ...request, ignore_eos: true, temperature: 0, stream: true }, path)).text(),
    );
    expect(note).toMatchObject({ completionTokens: 4, finish: 'length' });
  });

  it('reports `length` if any of several choices was cut', async () => {
    const orders = new Set<string>();
    for (let seed = 0; seed < 8; seed += 1) {
      // Each choice samples one token, the end or another, with equal probability.
      const request = { messages, n: 2, seed, max_tokens: 1, logit_bias: { [end]: 100, '5': 100 } };
      const whole = await ask(request);
      const reasons = ((await whole.json()) as ChatCompletion).choices.map((choice) => choice.finish_reason);
      orders.add(reasons.join());
      const finish = reasons.includes('length') ? 'length' : 'stop';
      expect(readUsageNote(whole.headers.get(USAGE_HEADER))?.finish).toBe(finish);
      expect(noted(await (await ask({ ...request, stream: true })).text()).note?.finish).toBe(finish);
    }
    expect([...orders]).toEqual(expect.arrayContaining(['stop,length', 'length,stop']));
  });

  it('is not sent by a standalone origin', async () => {
    const alone = await startTestOrigin();
    try {
      for (const stream of [false, true]) {
        const response = await fetch(`${alone.url}/v1/chat/completions`, {
          method: 'POST',
          body: JSON.stringify({ model: 'fake', messages, max_tokens: 2, stream }),
        });
        expect(response.status).toBe(200);
        expect(response.headers.get(USAGE_HEADER)).toBeNull();
        expect(await response.text()).not.toContain(USAGE_COMMENT.trim());
      }
    } finally {
      await alone.stop();
    }
  });
});
