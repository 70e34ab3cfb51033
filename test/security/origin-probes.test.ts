/** What somebody without a key finds out at an origin by asking. */
import http from 'node:http';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { OriginContext } from '../../gpu-origin/http/origin-context.ts';
import { createSignatureLog } from '../../gpu-origin/log.ts';
import { sign, type SignatureProblem } from '../../protocol/signature.ts';
import { KEY, ORIGIN_ID, sha256, startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';

const NOW = 1_800_000_000_000;
const TOKEN = 'scrape-0123456789abcdef';
const FORGER = new Uint8Array(32).fill(1);

let origin: Origin;
let problems: SignatureProblem[];
const start = async (context: Partial<OriginContext> = {}) => {
  problems = [];
  const onRefusedSignature = (problem: SignatureProblem) => void problems.push(problem);
  origin = await startTestOrigin({
    signed: true,
    now: () => NOW,
    context: { onRefusedSignature, ...context },
  });
};
afterEach(() => origin.stop());

describe('key ids', () => {
  beforeEach(() => start());

  it.each([0, -500, -2_000, -30_000, 59_000, -61_000, 61_000])(
    'that exist are answered as those that do not, by a stamp %d ms from now',
    async (skew) => {
      const ask = async (kid: string, more: { originId?: string; startId?: string } = {}) => {
        const parts = { originId: ORIGIN_ID, method: 'GET', pathAndQuery: '/base', bodyHash: sha256('') };
        const signature = await sign({ kid, secret: FORGER }, { ...parts, ...more }, NOW + skew);
        const response = await fetch(`${origin.url}/base`, {
          headers: { 'x-graft-signature': signature, 'x-request-id': 'same' },
        });
        const headers = [...response.headers].filter(([name]) => name !== 'date');
        return { status: response.status, headers, body: await response.text() };
      };
      const known = await ask(KEY.kid);
      expect(known.status).toBe(401);
      expect(await ask('k9')).toEqual(known);
      expect(await ask(KEY.kid, { originId: 'origin-2' })).toEqual(known);
      expect(await ask('k9', { startId: 'a'.repeat(22) })).toEqual(known);
      // The operator is told all of it.
      if (Math.abs(skew) < 60_000)
        expect(problems.slice(0, 2)).toEqual([
          { kind: 'mismatch', kid: KEY.kid },
          { kind: 'unknown_key', kid: 'k9' },
        ]);
    },
  );

  it('fill no log, however often they are tried', () => {
    let now = 0;
    const lines: object[] = [];
    const log = createSignatureLog(
      (_level, event, fields) => void lines.push({ event, ...fields }),
      () => now,
    );
    for (let i = 0; i < 1_000; i += 1) log({ kind: 'unknown_key', kid: `k${i}` });
    log({ kind: 'clock_skew', skewMs: 70_000 });
    now = 10_000;
    log({ kind: 'unknown_key', kid: 'again' });
    expect(lines).toMatchObject([
      { event: 'signature_refused', reason: 'unknown_key', kid: 'k0' },
      { reason: 'clock_skew', skew_ms: 70_000 },
      { reason: 'unknown_key', kid: 'again', more: 999 },
    ]);
  });
});

describe('metrics', () => {
  const scrape = async (headers: Record<string, string> = {}) => {
    const asking = http.get(`${origin.url}/metrics`, { headers });
    const [response] = (await once(asking, 'response')) as [http.IncomingMessage];
    response.resume();
    return response.statusCode;
  };
  const PROMETHEUS = {
    'user-agent': 'Prometheus/3.5.0',
    accept: 'application/openmetrics-text;version=1.0.0',
    'accept-encoding': 'gzip',
    'x-prometheus-scrape-timeout-seconds': '10',
  };

  it('of an origin on loopback are for this machine, and for nobody who comes through a proxy', async () => {
    await start();
    for (const headers of [{}, PROMETHEUS, { 'user-agent': 'curl/8.5.0', accept: '*/*' }])
      expect(await scrape(headers)).toBe(200);
    expect((await fetch(`${origin.url}/metrics`)).status).toBe(200);
    const proxies = [
      ...['forwarded', 'via', 'x-real-ip', 'x-client-ip', 'true-client-ip', 'x-cluster-client-ip'],
      ...[
        'x-forwarded-for',
        'x-forwarded-host',
        'x-forwarded-proto',
        'x-forwarded-port',
        'x-forwarded-server',
      ],
      ...['x-original-forwarded-for', 'x-original-host', 'x-envoy-external-address', 'x-request-start'],
      ...['cf-connecting-ip', 'cf-ray', 'cf-visitor', 'cdn-loop', 'fastly-client-ip', 'fly-client-ip'],
      ...[
        'x-amzn-trace-id',
        'x-azure-clientip',
        'x-appengine-user-ip',
        'traceparent',
        'tailscale-user-login',
      ],
    ];
    for (const name of proxies) expect(await scrape({ [name]: '203.0.113.1' }), name).toBe(401);
    for (const host of ['metrics.example', '127.0.0.1.example', '10.0.0.1'])
      expect(await scrape({ host }), host).toBe(401);
  });

  it('of an origin on another address need a token, or a signature', async () => {
    await start({ loopbackOnly: false });
    expect(await scrape()).toBe(401);
    expect(await scrape({ authorization: `Bearer ${TOKEN}` })).toBe(401);
    const parts = { originId: ORIGIN_ID, method: 'GET', pathAndQuery: '/metrics', bodyHash: sha256('') };
    expect(await scrape({ 'x-graft-signature': await sign(KEY, parts, NOW) })).toBe(200);
  });

  it('with the configured token are for whoever has it, whatever lies in between', async () => {
    await start({ loopbackOnly: false, metricsToken: TOKEN });
    const through = { 'x-forwarded-for': '203.0.113.1', host: 'metrics.example' };
    expect(await scrape({ ...through, authorization: `Bearer ${TOKEN}` })).toBe(200);
    for (const other of [`${TOKEN}x`, TOKEN.slice(1), '', 'x', `${TOKEN} ${TOKEN}`])
      expect(await scrape({ ...through, authorization: `Bearer ${other}` })).toBe(401);
    expect(await scrape({ authorization: `Basic ${TOKEN}` })).toBe(401);
    // It opens nothing else.
    expect(
      (await fetch(`${origin.url}/base`, { headers: { authorization: `Bearer ${TOKEN}` } })).status,
    ).toBe(401);
  });
});
