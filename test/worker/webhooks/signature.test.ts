import { createHmac } from 'node:crypto';
import { expect, it } from 'vitest';
import { createWebhookSigner, webhookProblem } from '../../../worker/webhooks/send-webhooks.ts';

const SECRET = new Uint8Array(32).fill(7);
const target = { source: 'exp_00000000000000aa', url: 'https://example.com/hook' };

it('signs as Standard Webhooks has it, checked by another implementation', async () => {
  const signer = createWebhookSigner(SECRET);
  const secret = await signer.secret(target);
  expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  const body = '{"type":"experiment.proposed"}';
  const headers = await signer.headers(target, { id: 'msg_1', at: 1_790_000_000_999, body });
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const mac = createHmac('sha256', key).update(`msg_1.1790000000.${body}`).digest('base64');
  expect(headers).toEqual({
    'webhook-id': 'msg_1',
    'webhook-timestamp': '1790000000',
    'webhook-signature': `v1,${mac}`,
  });
});

it('has another secret for each source, URL, use and secret of the edge', async () => {
  const signer = createWebhookSigner(SECRET);
  const secrets = await Promise.all([
    signer.secret(target),
    signer.secret({ ...target, url: 'https://example.com/other' }),
    signer.secret({ ...target, source: 'exp_00000000000000ab' }),
    createWebhookSigner(SECRET, 'graft-unit-v1').secret(target),
    createWebhookSigner(new Uint8Array(32).fill(8)).secret(target),
  ]);
  expect(new Set(secrets).size).toBe(secrets.length);
  expect(await signer.secret(target)).toBe(secrets[0]);
});

it('sends to public names by https alone, and to loopback where that is allowed', () => {
  for (const url of ['https://example.com/hook?x=1', 'https://hooks.example.co.uk:8443/'])
    expect(webhookProblem(url, false), url).toBeNull();
  const refused = [
    ['http://example.com/', /https/],
    ['ftp://example.com/', /https/],
    ['nonsense', /URL/],
    [`https://example.com/${'x'.repeat(1_000)}`, /URL/],
    ['https://user:word@example.com/', /password/],
    ['https://example.com/#part', /fragment/],
    ['https://127.0.0.1/', /address/],
    ['https://2130706433/', /address/],
    ['https://0x7f.1/', /address/],
    ['https://10.0.0.1./', /address/],
    ['https://8.8.8.8/', /address/],
    ['https://[::1]/', /address/],
    ['https://[::ffff:169.254.169.254]/', /address/],
    ['https://localhost/', /public/],
    ['https://LOCALHOST./', /public/],
    ['https://router/', /public/],
    ['https://metadata.google.internal/', /public/],
    ['https://kubernetes.default.svc/', /public/],
    ['https://web.shop.svc.cluster.local/', /public/],
    ['https://db.service.consul/', /public/],
    ['https://api.cluster/', /public/],
    ['https://metadata.google.internal../', /public/],
    ['https://hooks.example.com../', /public/],
    ['https://db.local/', /public/],
  ] as const;
  for (const [url, says] of refused) {
    expect(webhookProblem(url, false), url).toMatch(says);
    expect(webhookProblem(url, false), url).not.toBeNull();
  }
  for (const url of ['http://127.0.0.1:9/hook', 'http://localhost:8080/', 'https://[::1]/'])
    expect(webhookProblem(url, true), url).toBeNull();
  for (const url of ['http://10.0.0.1/', 'http://example.com/', 'https://192.168.1.1/'])
    expect(webhookProblem(url, true), url).not.toBeNull();
});
