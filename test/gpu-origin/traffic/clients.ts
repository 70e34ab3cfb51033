/** Clients of an origin that is short of everything: they ask through an edge, read slowly, leave, or stay. */
import { randomUUID } from 'node:crypto';
import { expect } from 'vitest';
import type { ChainEntry } from '../../../protocol/identity.ts';
import type { RequestUsage } from '../../../protocol/origin-wire.ts';
import { sha256 } from '../http/harness.ts';
import type { TinyAdapter } from '../../fixtures/tiny-base.ts';
import type { TinyRunner } from '../../fixtures/tiny-runner.ts';
import { eventsOf, timeless, uncached, wholeOf } from './answers.ts';
import type { Asked, Random } from './requests.ts';
import type { TrafficOrigin } from './rig.ts';

export interface AdapterFile {
  digest: string;
  bytes: Uint8Array<ArrayBuffer>;
}

const TARGETS = [
  ['q_proj', 'v_proj'],
  ['q_proj'],
  ['o_proj', 'down_proj'],
  ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'],
];

/** Of several ranks and modules. */
export async function makeFiles(tiny: TinyRunner, many: number): Promise<Map<string, AdapterFile>> {
  const files = new Map<string, AdapterFile>();
  for (let at = 0; at < many; at += 1) {
    const params: TinyAdapter = {
      seed: 100 + at,
      rank: [1, 4, 8, 16, 3][at % 5]!,
      alpha: 8,
      targets: TARGETS[at % 4]!,
    };
    const { digest, bytes } = await tiny.file(`adapter ${at}`, params);
    files.set(digest, { digest, bytes });
  }
  return files;
}

/** Chains of one to three. */
export function chainsOf(files: ReadonlyMap<string, AdapterFile>): ChainEntry[][] {
  const digests = [...files.keys()];
  return digests.map((digest, at) =>
    [digests[(at + 2) % digests.length]!, digests[(at + 1) % digests.length]!, digest]
      .slice(2 - (at % 3))
      .map((one, place) => ({ digest: one, scale: place === 1 ? 0.5 : 1 })),
  );
}

export interface Fate {
  stream: boolean;
  /** Leaves after so many reads of a stream, or ms of an answer that is whole; null = stays. */
  leaves: number | null;
  /** Between two reads, ms. */
  slow: number;
}

export type Outcome =
  | { kind: 'whole'; body: unknown; usage: RequestUsage; note: string | null }
  | { kind: 'left'; usage: RequestUsage }
  | { kind: 'failed'; code: string; error: string };

/** Far more than it takes; a request that never gets in ends the test. */
const MOST_ATTEMPTS = 2_000;

const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export async function upload(origin: TrafficOrigin, { digest, bytes }: AdapterFile): Promise<void> {
  const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: sha256(bytes) }] };
  const declared = await origin.send(`/adapters/${digest}`, { method: 'PUT', body: JSON.stringify(record) });
  await declared.arrayBuffer();
  if (declared.status !== 201) return;
  const put = await origin.send(`/adapters/${digest}/parts/0`, { method: 'PUT', body: bytes });
  await put.arrayBuffer();
}

/** Asks as an edge does: brings what is missing, comes back when it is told to. */
export async function ask(
  origin: TrafficOrigin,
  asked: Asked,
  files: ReadonlyMap<string, AdapterFile>,
  { fate, id, asks = [] }: { fate: Fate; id: string; asks?: string[] },
): Promise<Outcome> {
  for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt += 1) {
    const cancelId = randomUUID();
    asks.push(cancelId);
    const body = JSON.stringify({
      request: { ...asked.request, ...(fate.stream ? streamed(asked) : {}) },
      graft: {
        chain: asked.chain,
        tenant: asked.tenant,
        request_id: id,
        model: 'tiny',
      },
    });
    const leaving = new AbortController();
    const timer =
      !fate.stream && fate.leaves !== null ? setTimeout(() => leaving.abort(), fate.leaves) : undefined;
    const left = async (): Promise<Outcome> => ({ kind: 'left', usage: await usageOf(origin, cancelId) });
    try {
      const response = await origin.send(`${asked.path}?cancel=${cancelId}&answer=${id}`, {
        method: 'POST',
        body,
        signal: leaving.signal,
      });
      if (!response.ok) {
        const { error } = (await response.json()) as {
          error: { code: string; message: string; missing?: string[] };
        };
        if (error.code === 'adapter_missing') {
          for (const digest of error.missing ?? asked.chain.map((one) => one.digest))
            await upload(origin, files.get(digest)!);
          continue;
        }
        if (error.code === 'adapter_loading' || error.code === 'queue_full') {
          await rest(10);
          continue;
        }
        return { kind: 'failed', code: error.code, error: `${response.status} ${error.message}` };
      }
      const note = response.headers.get('x-graft-usage');
      if (!fate.stream) {
        const whole = timeless(await response.json());
        return { kind: 'whole', body: whole, usage: await usageOf(origin, cancelId), note };
      }
      const read = await readSlowly(response, fate, leaving);
      if (read === null) return await left();
      const whole = wholeOf(asked.path, eventsOf(read));
      if (typeof whole === 'string') {
        const code = /"code":"(\w+)"/.exec(whole)?.[1] ?? /"type":"(\w+)"/.exec(whole)?.[1] ?? 'unknown';
        return { kind: 'failed', code: `stream:${code}`, error: whole };
      }
      const told = /^: graft-usage (.*)$/m.exec(read)?.[1] ?? null;
      return { kind: 'whole', body: timeless(whole), usage: await usageOf(origin, cancelId), note: told };
    } catch (error) {
      if (leaving.signal.aborted) return await left();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
  return { kind: 'failed', code: 'gave up', error: `${MOST_ATTEMPTS} attempts` };
}

const streamed = ({ path }: Asked): object =>
  path === '/v1/chat/completions' || path === '/v1/completions'
    ? { stream: true, stream_options: { include_usage: true } }
    : { stream: true };

async function readSlowly(response: Response, fate: Fate, leaving: AbortController): Promise<string | null> {
  const decoder = new TextDecoder();
  let text = '';
  let reads = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    reads += 1;
    if (fate.leaves !== null && reads > fate.leaves) {
      leaving.abort();
      return null;
    }
    if (fate.slow > 0) await rest(fate.slow);
  }
  return text;
}

export async function usageOf(origin: TrafficOrigin, cancelId: string): Promise<RequestUsage> {
  const response = await origin.send(`/cancel/${cancelId}`, { method: 'POST' });
  return (await response.json()) as RequestUsage;
}

export const randomFate = (random: Random, canStream: boolean): Fate => ({
  stream: canStream && random.chance(0.5),
  leaves: random.chance(0.15) ? random.below(20) : null,
  slow: random.chance(0.15) ? random.below(6) : 0,
});

/** What the origin has said of what it used, beside the answer and in it. */
export function expectUsage(asked: Asked, outcome: Outcome): void {
  if (outcome.kind === 'failed') return;
  // Who leaves at once may not have come at all.
  if (outcome.kind === 'left') return expect(outcome.usage.state).not.toBe('running');
  expect(outcome.usage.state).toBe('ended');
  const { usage } = uncached(outcome.body) as { usage: Record<string, number> };
  const prompt = usage['prompt_tokens'] ?? usage['input_tokens'];
  const completion = usage['completion_tokens'] ?? usage['output_tokens'] ?? 0;
  const told = {
    prompt_tokens: outcome.usage.prompt_tokens,
    completion_tokens: outcome.usage.completion_tokens,
  };
  expect(told, JSON.stringify(asked)).toEqual({ prompt_tokens: prompt, completion_tokens: completion });
  expect(outcome.note, JSON.stringify(asked)).toMatch(
    new RegExp(`^prompt=${prompt},completion=${completion}(,|$)`),
  );
}
