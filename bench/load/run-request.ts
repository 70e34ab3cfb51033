import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { signForOrigin } from './sign-for-origin.ts';
import { requestFor, type Ask, type Target } from './target.ts';

/** Times in milliseconds from the moment before the connection is opened. */
export interface RequestResult {
  firstMs: number;
  lastMs: number;
  totalMs: number;
  /** When each chunk with a token came. */
  tokenMs: number[];
  /** The answer, if it is a turn of a chat; else ''. */
  text: string;
  /** Why the answer does not count; null when it does. */
  problem: string | null;
}

/** A stuck server fails the run instead of hanging it. */
const TIMEOUT_MS = 300_000;
const USAGE = /"completion_tokens":\s*(\d+)/;

/**
 * One streaming request on a connection of its own. Chunks are counted, not parsed: the load generator shares the
 * machine with what it measures.
 */
export async function runRequest(
  target: Target,
  ask: Ask,
  agent: http.Agent | false = false,
  signal?: AbortSignal,
): Promise<RequestResult> {
  const { path, body, headers: own } = await written(target, ask);
  const headers: Record<string, string> = {
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...own,
  };
  return new Promise((resolve) => {
    const start = performance.now();
    const tokenMs: number[] = [];
    const kept: string[] = [];
    let used: number | null = null;
    let rest = '';
    const finish = (problem: string | null) =>
      resolve({
        ...{ firstMs: tokenMs[0] ?? NaN, lastMs: tokenMs.at(-1) ?? NaN, tokenMs, problem },
        totalMs: performance.now() - start,
        text: kept.map(textOf).join(''),
      });
    const request = http.request(
      {
        host: target.host,
        port: target.port,
        path,
        method: 'POST',
        headers,
        agent,
        timeout: TIMEOUT_MS,
        signal,
      },
      (response) => {
        response.setEncoding('utf8');
        response.on('data', (text: string) => {
          if (response.statusCode !== 200) {
            rest += text.slice(0, 300 - rest.length);
            return;
          }
          const lines = (rest + text).split('\n');
          rest = lines.pop() ?? '';
          for (const line of lines) {
            if (!line.startsWith('data:') || line.includes('[DONE]')) continue;
            const usage = USAGE.exec(line);
            if (usage !== null) used = Number(usage[1]);
            if (usage !== null && /"choices":\s*\[\]/.test(line)) continue;
            tokenMs.push(performance.now() - start);
            if (ask.chat === true) kept.push(line);
          }
        });
        response.on('end', () => {
          if (response.statusCode !== 200) return finish(`status ${response.statusCode}: ${rest}`);
          if (tokenMs.length === 0) return finish('no token came');
          if (target.kind === 'openai' && used !== ask.tokens)
            return finish(`asked for ${ask.tokens} tokens, usage says ${used}`);
          finish(null);
        });
        response.on('error', (error) => finish(error.message));
      },
    );
    request.on('timeout', () => request.destroy(new Error(`no data for ${TIMEOUT_MS / 1000} s`)));
    request.on('error', (error) => finish(error.message));
    request.end(body);
  });
}

/** @param line of an event, as either kind of server sends it. */
function textOf(line: string): string {
  const event = JSON.parse(line.slice('data:'.length)) as {
    choices?: { text?: string }[];
    content?: string;
  };
  return event.choices?.[0]?.text ?? event.content ?? '';
}

/** Signing is the edge's work, and done before the clock starts. */
async function written(
  target: Target,
  ask: Ask,
): Promise<{ path: string; body: string; headers: Record<string, string> }> {
  const { path, body } = requestFor(target, ask);
  const { key, signed } = target;
  if (signed === undefined)
    return { path, body, headers: key === undefined ? {} : { authorization: `Bearer ${key}` } };
  const request = JSON.parse(body) as { model: string };
  const { text, headers } = await signForOrigin(signed, {
    ...{ path, request, chain: signed.chainOf(ask.adapter), model: request.model },
    requestId: `bench-${randomUUID()}`,
  });
  return { path, body: text, headers };
}
