/** Judged pairs on the whole local stack: an application of this machine judges, and the page shows what it says. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { signatureOf } from '../fakes/standard-webhooks.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

const ASKED = 8;
const SHADOW = ['--shadow', `${NAME}@2:100%`];
const VARIANTS = ['--variant', 'control=@1', '--variant', 'treatment=@2'];
const rig = useDashboard();
let application: Server;
/** What it was sent. */
const calls: { id: string; at: string; body: string; signature: string }[] = [];

beforeAll(async () => {
  application = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => void chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      const { headers } = request;
      const [id, at] = [String(headers['webhook-id']), String(headers['webhook-timestamp'])];
      calls.push({ id, at, body, signature: String(headers['webhook-signature']) });
      response.end(JSON.stringify({ choice: calls.length % 4 === 0 ? 'tie' : 'a' }));
    });
  });
  application.listen(0, '127.0.0.1');
  await once(application, 'listening');
});
afterAll(() => void application?.close());

const graft = async (...words: string[]) => {
  const done = await rig.stack.graft('experiment', ...words);
  expect(done.code, done.stderr).toBe(0);
  return done.stdout;
};
const ask = async (content: string, tokens: number) => {
  const messages = [{ role: 'user', content }];
  const body = { model: NAME, temperature: 1, max_tokens: tokens, stream: content.endsWith('1'), messages };
  const answer = await rig.post('/v1/chat/completions', body);
  expect([answer.status, answer.headers.get('x-graft-adapter')]).toEqual([200, `${NAME}@1`]);
  await answer.text();
};

it('asks an application of this machine, and shows which answers it prefers', async () => {
  const { page } = rig;
  const { port } = application.address() as AddressInfo;
  const judge = ['--judge', `http://127.0.0.1:${port}/judge`, '--keep-pairs', '5'];
  await graft('create', NAME, ...VARIANTS, ...SHADOW, ...judge);
  const secret = (await graft('secret', NAME)).trim();
  await graft('start', NAME);
  await rig.signIn();
  await rig.goTo('Experiments');
  await page.getByRole('link', { name: NAME }).click();
  await page.getByText('Nobody is in it: answers are judged in parallel').waitFor();

  // The names in KV are remembered for a while.
  await expect
    .poll(async () => ask('hi', 32).then(() => calls.length), { interval: 1_000 })
    .toBeGreaterThan(0);
  for (let i = 0; i < ASKED; i += 1) {
    const before = calls.length;
    // Of four tokens two answers in a hundred are the same to the letter (bytes that are no text): nobody is asked then.
    await ask(`question ${i}`, 32);
    await expect.poll(() => calls.length, { interval: 50 }).toBeGreaterThan(before);
  }
  for (const call of calls) expect(call.signature).toBe(signatureOf(call, secret));

  const look = page.getByRole('button', { name: 'Evaluate now' });
  const region = page.getByRole('region', { name: 'Judged pairs', exact: true }).first();
  const looked = async () => {
    await look.click();
    await look.waitFor();
    return region.getByText('The answer shown first was chosen in 100 %.').isVisible();
  };
  await expect.poll(looked, { interval: 500 }).toBe(true);
  await page.getByText('Wait: too few judged pairs to tell which is better').waitFor();
  await rig.look('pairs');
  const kept = await graft('pairs', NAME);
  expect(kept).toContain(`question ${ASKED - 1}`);
  expect(kept.match(/^user: /gm)).toHaveLength(5);
  expect(await graft('status', NAME)).toContain('the answer shown first was chosen in 100.0 %');
  expect(rig.complaints).toEqual([]);
});

it('asks the base in both orders, which says one of three words', async () => {
  for (const step of ['stop', 'archive']) await graft(step, NAME);
  await graft('create', NAME, ...VARIANTS, ...SHADOW, '--judge', 'base');
  await graft('start', NAME);
  const judged = async () => {
    // Two of them, in the judge's words, fit the tiny base's context.
    await ask('question', 4);
    return graft('evaluate', NAME);
  };
  await expect
    .poll(judged, { interval: 1_000 })
    .toMatch(/the judge agreed with itself in both orders in (0|100)\.0 %/);
  expect(await graft('status', NAME)).not.toContain('not judged');
  expect(calls.some(({ body }) => body.includes('"question"'))).toBe(false);
});
