/** The application that judges: a signed call behind the user's answer, which nothing about it delays. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { MAX_CALL_ANSWER_BYTES } from '../../../../worker/experiments/limits.ts';
import { expectedSignature } from '../../../fakes/standard-webhooks.ts';
import { makeKey } from '../experiment-rig.ts';
import { APPLICATION, startPairs, type Pairs } from './pairs-rig.ts';

interface Call {
  url: string;
  headers: Headers;
  redirect: RequestInit['redirect'];
  body: string;
  answers: { a: string; b: string };
}

let pairs: Pairs;
let calls: Call[];
const start = async (judge: object = {}) => {
  pairs = await startPairs({ url: APPLICATION, ...judge });
  calls = [];
  answerWith(({ answers }) => Response.json({ choice: answers.a === 'two' ? 'a' : 'b' }));
};
const answerWith = (answer: (call: Call) => Response | Promise<Response>) => {
  pairs.graft.application.answer = async (url, init) => {
    const body = init.body as string;
    const { answers } = JSON.parse(body) as Pick<Call, 'answers'>;
    const call = { url, headers: new Headers(init.headers), redirect: init.redirect, body, answers };
    calls.push(call);
    return answer(call);
  };
};
const shown = async () => (await pairs.look()).evaluation?.pairs;
beforeEach(() => start());

describe('an application that judges', () => {
  it('is called with prompt and answers, signed as Standard Webhooks has it', async () => {
    await pairs.ask({ messages: [{ role: 'user', content: [{ type: 'text', text: 'Where?' }] }] });
    expect(await shown()).toMatchObject({ wins: 1, agreement: null, failures: {}, tokens_today: 15 });
    const [call] = calls;
    expect(call).toMatchObject({ url: APPLICATION, redirect: 'manual' });
    expect(JSON.parse(call!.body)).toMatchObject({
      ...{ type: 'pair', experiment: pairs.id, name: 'support/intent' },
      prompt: [{ role: 'user', content: 'Where?' }],
    });
    const { json } = await pairs.admin(`/${pairs.id}/judge-secret`);
    const { secret } = json as { secret: string };
    const { headers, body } = call!;
    expect(JSON.parse(body)).toMatchObject({ id: headers.get('webhook-id') });
    expect(headers.get('webhook-signature')).toBe(expectedSignature(headers, body, secret));
    expect(call!.headers.has('authorization')).toBe(false);
  });

  it('sees the answers in an order of chance, and nothing that says whose they are', async () => {
    vi.spyOn(crypto, 'getRandomValues').mockImplementation((array) => {
      (array as Uint8Array)[0] = calls.length;
      return array;
    });
    for (let i = 0; i < 4; i += 1) {
      await pairs.ask();
      await pairs.graft.settled();
    }
    vi.restoreAllMocks();
    expect(calls.map(({ answers }) => answers.a)).toEqual(['one', 'two', 'one', 'two']);
    expect(await shown()).toMatchObject({ wins: 4, first_chosen: 0.5 });
    for (const { body } of calls) expect(body).not.toMatch(/treatment|control|@\d/);
  });

  it.each<[string, () => Response | Promise<Response>, string]>([
    ['an error', () => new Response('', { status: 500 }), 'judge'],
    ['a redirect', () => Response.redirect('http://169.254.169.254/', 302), 'judge'],
    ['nothing', () => Promise.reject(new Error('refused')), 'judge'],
    ['no JSON', () => new Response('a'), 'unclear'],
    ['another choice', () => Response.json({ choice: 'c' }), 'unclear'],
    ['more than it may', () => new Response('x'.repeat(MAX_CALL_ANSWER_BYTES + 1)), 'judge'],
  ])('fails where it answers %s, once, and the user does not notice', async (_what, answer, failure) => {
    answerWith(answer);
    expect((await pairs.ask()).status).toBe(200);
    expect(await shown()).toMatchObject({ wins: 0, ties: 0, losses: 0, failures: { [failure]: 1 } });
    expect(calls).toHaveLength(1);
  });

  it('keeps no user waiting when it hangs', async () => {
    let end = (_: Response): void => undefined;
    answerWith(() => new Promise((resolve) => (end = resolve)));
    expect(JSON.parse((await pairs.ask()).text)).toMatchObject({
      choices: [{ message: { content: 'one' } }],
    });
    await vi.waitFor(() => expect(calls).toHaveLength(1));
    expect(JSON.parse((await pairs.ask()).text)).toMatchObject({
      choices: [{ message: { content: 'one' } }],
    });
    await vi.waitFor(() => expect(calls).toHaveLength(2));
    end(Response.json({ choice: 'tie' }));
  });

  it.each([{ n: 2 }, { messages: [{ role: 'user', content: 'x'.repeat(140_000) }] }])(
    'is not called about what is not one text, or too long (%#)',
    async (more) => {
      await pairs.ask(more);
      expect(await shown()).toMatchObject({ failures: { form: 1 } });
      expect(calls).toEqual([]);
    },
  );

  it('has a secret that its owner alone reads, another one for another address', async () => {
    const path = `/${pairs.id}/judge-secret`;
    const stranger = (await makeKey(pairs.graft, { kind: 'admin', tenant: 'other' })).key;
    for (const key of [stranger, pairs.graft.adminKey])
      expect((await pairs.admin(path, undefined, key)).status).toBe(404);
    const { json: first } = await pairs.admin(path);
    await start();
    expect((await pairs.admin(`/${pairs.id}/judge-secret`)).json).not.toEqual(first);
  });
});

describe('pairs that are kept', () => {
  beforeEach(() => start({ keep_pairs: 2 }));
  const kept = async (key?: string) => pairs.admin(`/${pairs.id}/pairs`, undefined, key);

  it('are the last ones, for their owner alone', async () => {
    for (const content of ['first', 'second', 'third']) {
      await pairs.ask({ messages: [{ role: 'user', content }] });
      await pairs.graft.settled();
    }
    const { json } = await kept();
    expect(json).toMatchObject({
      pairs: ['third', 'second'].map((content) => ({
        ...{
          prompt: [{ role: 'user', content }],
          control: 'one',
          treatment: 'two',
          result: 'win',
          cut: false,
        },
      })),
    });
    const stranger = (await makeKey(pairs.graft, { kind: 'admin', tenant: 'other' })).key;
    for (const key of [stranger, pairs.graft.adminKey])
      expect(JSON.stringify(await kept(key))).not.toMatch(/third|two/);
    expect((await kept(stranger)).status).toBe(404);
  });

  it('are cut where they are long, from the beginning of the prompt', async () => {
    const long = 'y'.repeat(9_000);
    pairs.says[2] = `two${long}`;
    const messages = [
      { role: 'system', content: 'lost' },
      { role: 'user', content: long },
    ];
    await pairs.ask({ messages });
    await pairs.graft.settled();
    const { json } = await kept();
    const [pair] = (json as { pairs: { prompt: { content: string }[]; treatment: string; cut: boolean }[] })
      .pairs;
    expect(pair).toMatchObject({ cut: true, prompt: [{ role: 'user' }] });
    expect(pair!.prompt[0]!.content).toHaveLength(8_192);
    expect(pair!.treatment).toHaveLength(8_192);
  });

  it('are gone with the experiment, and what is not asked for is not kept', async () => {
    await pairs.ask();
    await pairs.graft.settled();
    expect((await kept()).json).not.toEqual({ pairs: [] });
    for (const step of ['stop', 'archive'])
      expect((await pairs.admin(`/${pairs.id}/${step}`, {})).status).toBe(200);
    expect(await pairs.graft.stores.pairTallies.kept(pairs.id, { at: 0, keep: 200 })).toEqual([]);
    await start();
    await pairs.ask();
    await pairs.graft.settled();
    expect((await kept()).json).toEqual({ pairs: [] });
    expect(await pairs.graft.stores.pairTallies.kept(pairs.id, { at: 0, keep: 200 })).toEqual([]);
  });
});
