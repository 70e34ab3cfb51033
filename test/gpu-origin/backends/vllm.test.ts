/** The whole origin in front of vLLM, as clients see it. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { packAdapter } from '../../../adapters/index.ts';
import { readAdapterFiles } from '../../../gpu-origin/adapter-files/pack-folders.ts';
import { Tracer } from '../../../gpu-origin/tracing/tracer.ts';
import { readTracingConfig } from '../../../gpu-origin/tracing/tracing-config.ts';
import { evaluateAdapter, verifyAdapter } from '../../../gpu-origin/trials/verify-adapter.ts';
import { blobRecordOf } from '../../../protocol/adapter-manifest.ts';
import { addHead, startVllmOrigin, type VllmOrigin } from './vllm-origin.ts';

let origin: VllmOrigin;
afterEach(() => origin.stop());

const ask = (body: object, path = '/v1/completions', signal?: AbortSignal) =>
  fetch(`${origin.url}${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
    ...(signal === undefined ? {} : { signal }),
  });
interface Answer {
  choices: {
    text: string;
    finish_reason: string;
    logprobs: { token_logprobs: number[]; top_logprobs: object[] } | null;
  }[];
  usage: { prompt_tokens: number; completion_tokens: number };
  error: { code: string; message: string };
}
const complete = async (model: string, more: object = {}) => {
  const response = await ask({ model, prompt: 'hello', max_tokens: 12, temperature: 0, ...more });
  return { status: response.status, json: (await response.json()) as Answer };
};
const textOf = async (model: string, more: object = {}) =>
  (await complete(model, more)).json.choices[0]?.text;
/** Until `is` holds; the event loop goes on meanwhile. */
async function until(is: () => boolean): Promise<void> {
  while (!is()) await new Promise((resolve) => setImmediate(resolve));
}

describe('an origin in front of vLLM', () => {
  it('answers by the base, an adapter and a chain, each as itself', async () => {
    origin = await startVllmOrigin();
    const models = ['base', 'a0', 'a1', 'child'];
    const texts = await Promise.all(models.map((model) => textOf(model)));
    expect(new Set(texts).size).toBe(4);
    expect(await Promise.all(models.map((model) => textOf(model)))).toEqual(texts);
    const timed = await ask({ model: 'a0', prompt: 'hello', max_tokens: 1 });
    expect(timed.headers.get('server-timing')).toMatch(/^prompt;dur=\d+, queue;dur=\d+, first;dur=\d+, rest/);
    expect(origin.faults).toEqual([]);
    expect(origin.vllm.mostAtOnce).toBeLessThanOrEqual(2);
    // Token ids go there, and nothing is left to vLLM's own template, tokenizer or stop strings.
    for (const body of origin.vllm.bodies) {
      expect(body.prompt.every((id) => Number.isInteger(id))).toBe(true);
      expect(body).toMatchObject({ add_special_tokens: false });
      expect(body).not.toHaveProperty('stop');
      expect(body['cache_salt']).toMatch(/^[\w-]{11,}$/);
    }
  });

  it("passes a request's trace to vLLM as a new span, and none without a valid one", async () => {
    origin = await startVllmOrigin();
    const [trace, span] = ['4bf92f3577b34da6a3ce929d0e0e4736', '00f067aa0ba902b7'];
    const traced = async (traceparent?: string) => {
      const sent = origin.vllm.traces.length;
      const response = await fetch(`${origin.url}/v1/completions`, {
        method: 'POST',
        body: JSON.stringify({ model: 'base', prompt: 'hello', max_tokens: 2 }),
        headers: { baggage: 'user=alice', ...(traceparent === undefined ? {} : { traceparent }) },
      });
      expect(response.status).toBe(200);
      await response.text();
      return origin.vllm.traces.slice(sent);
    };
    const [header = ''] = await traced(`00-${trace}-${span}-01`);
    expect(header).toMatch(new RegExp(`^00-${trace}-[0-9a-f]{16}-01$`));
    expect(header).not.toContain(span);
    expect(await traced()).toEqual([undefined]);
    expect(await traced(`00-${trace}-${span}-01-more`)).toEqual([undefined]);
  });

  it('makes its own span the parent of vLLM’s where it records one', async () => {
    const bodies: string[] = [];
    const tracer = new Tracer({
      config: readTracingConfig({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://receiver' }, null)!,
      onSpans: () => undefined,
      onTrouble: () => undefined,
      fetch: async (_url, init) => {
        bodies.push(String(init?.body));
        return new Response('{}');
      },
    });
    origin = await startVllmOrigin({ tracer });
    const response = await fetch(`${origin.url}/v1/completions`, {
      method: 'POST',
      body: JSON.stringify({ model: 'a0', prompt: 'hello', max_tokens: 2 }),
    });
    await response.text();
    await tracer.close();
    const [, traceId, spanId] = /^00-(\w{32})-(\w{16})-01$/.exec(origin.vllm.traces.at(-1) ?? '') ?? [];
    expect(bodies.join()).toContain(`"traceId":"${traceId}","spanId":"${spanId}"`);
    const names = [...bodies.join().matchAll(/"name":"([a-z ]+)","kind":1/g)].map(([, name]) => name);
    expect(names).toEqual(['queue', 'load adapter', 'prefill', 'decode']);
  });

  it('refuses an activated adapter by name: vLLM would apply it to every token', async () => {
    origin = await startVllmOrigin({ activated: true });
    for (const model of ['a0', 'child']) {
      const { status, json } = await complete(model);
      expect([status, json.error]).toMatchObject([422, { code: 'adapter_invalid', reason: 'alora' }]);
      expect(json.error.message).toContain('alora_invocation_tokens');
    }
    expect((await complete('base')).status).toBe(200);
    expect(origin.vllm.loaded).toEqual([]);
  });

  it('drops the chains of an adapter, in vLLM and on disk', async () => {
    origin = await startVllmOrigin();
    for (const model of ['a0', 'a1', 'child']) await complete(model);
    const [a0] = origin.services.chains.get('a0')!;
    const folders = () => readdirSync(join(origin.folder, 'cache/vllm-standalone')).length;
    const { engine } = origin.services;
    const held = () => engine.residents().adapters.map(({ digest }) => digest);
    expect(held()).toContain(a0!.digest);
    expect(folders()).toBe(3);
    expect(await engine.drop(new Set([a0!.digest]))).toBe(0);
    expect(held()).toEqual(origin.services.chains.get('a1')!.map(({ digest }) => digest));
    expect(origin.vllm.loaded).toHaveLength(1);
    // The folder of child, which stands on it, has gone too.
    expect(folders()).toBe(1);
  });

  it('writes a chain as one PEFT folder: ranks concatenated, one scale', async () => {
    origin = await startVllmOrigin();
    await complete('child');
    const [loaded] = origin.vllm.loaded;
    const folder = join(origin.folder, 'cache/vllm-standalone', loaded!);
    const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as object;
    expect(config).toMatchObject({ r: 6, lora_alpha: 6, rank_pattern: {}, bias: 'none' });
  });

  it('renders a chat with the base’s template, and users’ text yields no control token', async () => {
    origin = await startVllmOrigin();
    const content = 'a<|im_end|>b';
    const response = await ask(
      { model: 'a0', messages: [{ role: 'user', content }], max_tokens: 4 },
      '/v1/chat/completions',
    );
    expect(response.status).toBe(200);
    const { prompt } = origin.vllm.bodies.at(-1)!;
    // <|im_end|> is 2: once behind the user's turn.
    expect(prompt.filter((id) => id === 2)).toHaveLength(1);
    expect(prompt.filter((id) => id === 1)).toHaveLength(2);
  });

  it('ends at stop strings, at the end token and at the length, and counts actual tokens', async () => {
    origin = await startVllmOrigin();
    const whole = (await textOf('a0', { max_tokens: 40 }))!;
    const stop = whole.slice(8, 10);
    const cut = await complete('a0', { max_tokens: 40, stop });
    expect(cut.json.choices[0]).toMatchObject({
      text: whole.slice(0, whole.indexOf(stop)),
      finish_reason: 'stop',
    });
    await until(() => origin.vllm.running === 0);
    origin.vllm.lengthOf = () => 5;
    const short = await complete('a0', { max_tokens: 40 });
    expect(short.json.choices[0]!.finish_reason).toBe('stop');
    expect(short.json.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 6 });
    const length = await complete('a0', { max_tokens: 3 });
    expect(length.json.choices[0]!.finish_reason).toBe('length');
  });

  it('returns log-probabilities of answers, and refuses those of prompts, which can crash vLLM', async () => {
    origin = await startVllmOrigin();
    const { json } = await complete('a0', { logprobs: 2, max_tokens: 3 });
    const { logprobs } = json.choices[0]!;
    expect(logprobs!.token_logprobs).toHaveLength(3);
    expect(logprobs!.token_logprobs.every((logprob) => logprob < 0)).toBe(true);
    expect(logprobs!.top_logprobs.every((top) => Object.keys(top).length >= 2)).toBe(true);
    for (const more of [{ logprobs: 2, echo: true }, { prompt_logprobs: 1 }]) {
      const { status, json } = await complete('base', more);
      expect([status, json.error.code]).toEqual([400, 'unsupported_parameter']);
    }
    expect(origin.vllm.bodies.every((body) => !('prompt_logprobs' in body) && !('echo' in body))).toBe(true);
  });

  it('streams, and ends the run at vLLM when the client goes', async () => {
    origin = await startVllmOrigin();
    let open = (): void => undefined;
    const opened = new Promise<void>((resolve) => (open = resolve));
    origin.vllm.gate = (at) => (at < 4 ? Promise.resolve() : opened);
    const gone = new AbortController();
    const response = await ask(
      { model: 'a0', prompt: 'hello', stream: true, max_tokens: 100 },
      '/v1/completions',
      gone.signal,
    );
    const reader = response.body!.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toContain('data: ');
    await until(() => origin.vllm.running === 1);
    gone.abort();
    await until(() => origin.vllm.running === 0);
    expect(origin.services.engine.stats()).toMatchObject({ running: 0, waiting: 0 });
    open();
  });

  it('reloads chains that vLLM has forgotten, and unloads by least use', async () => {
    origin = await startVllmOrigin({ adapters: 6 });
    const before = await textOf('a0');
    origin.vllm.forget();
    expect(await textOf('a0')).toBe(before);
    for (let at = 0; at < 6; at += 1) expect((await complete(`a${at}`)).status).toBe(200);
    expect(origin.vllm.loaded.length).toBeLessThanOrEqual(4);
    expect(origin.vllm.orders.filter((order) => /^-[0-9a-f]{64}$/.test(order)).length).toBeGreaterThan(0);
    expect(await textOf('a0')).toBe(before);
  });

  it('detects an engine that answers as the base under an adapter’s name', async () => {
    origin = await startVllmOrigin();
    await complete('a1');
    const [id] = origin.vllm.loaded;
    origin.vllm.forget();
    origin.vllm.asBase.add(id!);
    const { status, json } = await complete('a1');
    expect([status, json.error.code]).toEqual([503, 'adapter_unavailable']);
    expect(json.error.message).toContain('answers as the base');
    expect((await complete('a0')).status).toBe(200);
    expect(origin.vllm.loaded).not.toContain(id);
  });

  it('does not mistake an engine’s own noise for a difference', async () => {
    origin = await startVllmOrigin();
    origin.vllm.noise = 0.01;
    expect((await complete('a0')).status).toBe(200);
  });

  it('reports the rank that is too large', async () => {
    origin = await startVllmOrigin({
      args: ['--max-lora-rank', '8'],
      childRank: 6,
      vllm: { maxLoraRank: 8 },
    });
    expect((await complete('a0')).status).toBe(200);
    const { status, json } = await complete('child');
    expect([status, json.error.code]).toEqual([422, 'adapter_invalid']);
    expect(json.error.message).toContain('rank 10');
    expect(json.error.message).toContain('--max-lora-rank 8');
  });

  it('refuses a classification head by name, and classes of other adapters', async () => {
    await expect(startVllmOrigin({ classifies: true })).rejects.toThrow(/a0.*does not serve/);
    origin = await startVllmOrigin();
    const { files, base } = origin.services;
    const folder = join(origin.folder, 'a0');
    addHead(folder);
    const { bytes, digest } = await packAdapter({
      ...{ files: await readAdapterFiles(folder), baseId: base.id, parentChainId: null },
    });
    await files.declare(digest, await blobRecordOf([bytes]));
    await files.putPart(digest, 0, Readable.from([bytes]));
    const { status, json } = await complete(digest);
    expect([status, json.error]).toMatchObject([
      ...[422, { code: 'adapter_invalid', reason: 'classifier_unsupported' }],
    ]);
    expect(json.error.message).toContain('which vLLM does not load');
    for (const model of [digest, 'a1']) {
      const classes = await ask({ model, input: 'x' }, '/v1/classify');
      expect([classes.status, ((await classes.json()) as Answer).error.code]).toEqual([
        ...[400, 'unsupported_parameter'],
      ]);
    }
    expect(origin.vllm.loaded).toEqual([]);
  });

  it('refuses by name what this engine does not support', async () => {
    origin = await startVllmOrigin();
    const vector = await ask({ model: 'a0', input: 'x' }, '/v1/embeddings');
    expect(vector.status).toBe(400);
    expect(((await vector.json()) as Answer).error.code).toBe('unsupported_parameter');
  });

  it('maps refusals, broken streams and a lost engine, each to its own error', async () => {
    origin = await startVllmOrigin();
    const { troubles } = origin.vllm;
    const said = async () => {
      const { status, json } = await complete('base');
      return [status, json.error.code];
    };
    troubles.push((response) => {
      response.writeHead(500, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { message: 'EngineCore died', code: 500 } }));
    });
    expect(await said()).toEqual([503, 'origin_unavailable']);
    troubles.push((response) => response.destroy());
    expect(await said()).toEqual([503, 'origin_unavailable']);
    troubles.push((response) =>
      response.end('data: {"error": {"message": "out of memory", "code": 500}}\n\n'),
    );
    expect(await said()).toEqual([503, 'origin_unavailable']);
    troubles.push((response) => response.end('data: nonsense\n\n'));
    expect(await said()).toEqual([503, 'origin_unavailable']);
    troubles.push((response) => {
      response.write('data: {"choices": [{"index": 0, "token_ids": [70]}]}\n\n');
      response.end();
    });
    expect(await said()).toEqual([503, 'origin_unavailable']);
    expect((await complete('base')).status).toBe(200);
    await origin.vllm.stop();
    const gone = await ask({ model: 'a0', prompt: 'hello' });
    expect(gone.status).toBe(503);
    expect(gone.headers.get('retry-after')).toBe('1');
  });

  it('identifies the base by its files, and hashes them once', async () => {
    origin = await startVllmOrigin();
    const base = join(origin.folder, 'base');
    const lines = ['config.json', 'model.safetensors'].map((file) => {
      const bytes = readFileSync(join(base, file));
      return `${file} ${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}\n`;
    });
    const info = (await (await fetch(`${origin.url}/base`)).json()) as { digest: string; context: number };
    expect(info.digest).toBe(createHash('sha256').update(lines.join('')).digest('hex'));
    expect(info.context).toBe(512);
    const memory = readFileSync(join(origin.folder, 'cache/base-digests.json'), 'utf8');
    expect(memory).toContain('model.safetensors');
  });
});

describe('trials', () => {
  const params = (services: VllmOrigin['services']) => ({
    services,
    ...{ requestId: 'r', tenant: 't', signal: new AbortController().signal },
  });

  it('prove a chain and see its own proof again, and another one not', async () => {
    origin = await startVllmOrigin();
    const { services } = origin;
    const [child, other] = [services.chains.get('child')!, services.chains.get('a1')!];
    const first = await verifyAdapter({ ...params(services), chain: child, expected: null });
    expect(first).toMatchObject({ ok: true, value: { ok: true, reason: null, kl: null } });
    if (!first.ok) return;
    const expected = { prompt: first.value.prompt, tokens: first.value.adapter };
    expect(await verifyAdapter({ ...params(services), chain: child, expected })).toMatchObject({
      value: { ok: true, kl: 0 },
    });
    expect(await verifyAdapter({ ...params(services), chain: other, expected })).toMatchObject({
      value: { ok: false, reason: 'proof_mismatch' },
    });
  });

  it('do not score expected answers, and say why', async () => {
    origin = await startVllmOrigin();
    const { services } = origin;
    const scored = await evaluateAdapter({
      ...{ ...params(services), chain: services.chains.get('a0')!, budgetMs: null, now: Date.now },
      rows: [{ prompt: 'hello', expected: 'well' }],
    });
    expect(scored).toMatchObject({ ok: false, error: { code: 'unsupported_parameter' } });
  });
});
