import { afterEach, describe, expect, it } from 'vitest';
import type { ChatCompletion, ModelResponse, ResponseEvent } from '../../../protocol/completion-answers.ts';
import { events, startTestOrigin, type Origin } from './harness.ts';
import { saying } from './scripted.ts';

let origin: Origin;
afterEach(async () => {
  expect(origin.faults).toEqual([]);
  await origin.stop();
});

const CALL = '<tool_call>\n{"name": "get", "arguments": {}}\n</tool_call>';

/** A whole response that may call a function, and the last event of the same as a stream. */
async function ask(answer: string, body: object) {
  origin = await startTestOrigin({ runner: saying([['Weather?', answer]]) });
  const post = (stream: boolean) =>
    fetch(`${origin.url}/v1/responses`, {
      method: 'POST',
      body: JSON.stringify({
        ...{ model: 'fake', input: 'Weather?', temperature: 0, stream },
        tools: [{ type: 'function', name: 'get' }],
        ...body,
      }),
    });
  const whole = (await (await post(false)).json()) as ModelResponse;
  const text = (await (await post(true)).text()).replaceAll(/^event: .*\n/gm, '');
  const last = JSON.parse(events(text).at(-1)!) as ResponseEvent;
  if (!('response' in last)) throw new Error(JSON.stringify(last));
  return { whole, last };
}

/** The text of a response's messages, and the tokens of its log-probabilities. */
const saidBy = ({ output }: ModelResponse) =>
  output.flatMap((item) => (item.type === 'message' ? item.content : []));
const scoredOf = (response: ModelResponse): string =>
  new TextDecoder().decode(
    Uint8Array.from(saidBy(response).flatMap(({ logprobs }) => logprobs.flatMap(({ bytes }) => bytes ?? []))),
  );

describe('a call cut by a stop string', () => {
  const cut = `${CALL}\n${CALL.replace('{}', '{ }')}`;

  it('is incomplete in a response, unlike those before it', async () => {
    const { whole, last } = await ask(cut, { stop: ['{ '] });
    expect(whole.output).toMatchObject([
      { type: 'function_call', status: 'completed', arguments: '{}' },
      { type: 'function_call', status: 'incomplete', arguments: '' },
    ]);
    expect(last.response.output.map(({ status }) => status)).toEqual(['completed', 'incomplete']);
    expect([whole.status, last.response.status]).toEqual(['completed', 'completed']);
  });

  it('must not be run by a chat client', async () => {
    origin = await startTestOrigin({ runner: saying([['Weather?', cut]]) });
    const finishOf = async (stop: string[]) => {
      const response = await fetch(`${origin.url}/v1/chat/completions`, {
        method: 'POST',
        body: JSON.stringify({
          ...{ model: 'fake', temperature: 0, max_tokens: 200, stop },
          messages: [{ role: 'user', content: 'Weather?' }],
          tools: [{ type: 'function', function: { name: 'get' } }],
        }),
      });
      return ((await response.json()) as ChatCompletion).choices[0]!.finish_reason;
    };
    expect(await finishOf(['{ '])).toBe('stop');
    expect(await finishOf(['never'])).toBe('tool_calls');
  });
});

it('a whole call is completed, even if its answer is cut after it', async () => {
  const { whole, last } = await ask(CALL, { max_output_tokens: CALL.length - 5 });
  for (const response of [whole, last.response])
    expect(response).toMatchObject({
      status: 'incomplete',
      output: [{ type: 'function_call', status: 'completed', arguments: '{}' }],
    });
});

describe('a response with tools, streamed as it is whole', () => {
  it.each([5, 15])('is incomplete if it is cut before its first item: at %i', async (tokens) => {
    const { whole, last } = await ask('', { tool_choice: 'required', max_output_tokens: tokens });
    expect(whole).toMatchObject({
      ...{ status: 'incomplete', output: [] },
      incomplete_details: { reason: 'max_output_tokens' },
    });
    expect(last.type).toBe('response.incomplete');
    expect(last.response).toMatchObject({
      ...{ status: 'incomplete', output: [], completed_at: null },
      incomplete_details: { reason: 'max_output_tokens' },
    });
  });

  it.each([
    ['text whose blanks wait for what follows them', 'One.\n\nTwo <\u{1F44D} ', 'One.\n\nTwo <\u{1F44D} '],
    ['text before a call', `One.\n\n${CALL}`, 'One.'],
    ['text on both sides of a call', `One.${CALL}Two.`, 'One.Two.'],
  ])('has log-probabilities of its text, but not of calls: %s', async (_name, answer, said) => {
    const { whole, last } = await ask(answer, { include: ['message.output_text.logprobs'] });
    expect(
      saidBy(whole)
        .map(({ text }) => text)
        .join(''),
    ).toBe(said);
    expect(scoredOf(whole)).toBe(said);
    expect(saidBy(last.response)).toEqual(saidBy(whole));
  });
});
