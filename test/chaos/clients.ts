/** Clients that ask: adapters of a tiny base, the answers to be expected, and requests as real clients send them. */
import http from 'node:http';
import path from 'node:path';
import { startStandaloneOrigin } from '../../bench/standalone-origin.ts';
import { TINY_ADAPTERS, type TinyAdapter, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { SAME_LOGITS } from './processes.ts';
import { type Answer, readWhole, type Reference } from './truth.ts';

/** Tokens of the answer to each; a token takes some milliseconds. */
export const PROMPTS = [
  { text: 'hello there', tokens: 8 },
  { text: 'good morning, what is new?', tokens: 24 },
  { text: 'a b c', tokens: 60 },
  { text: 'the end of it', tokens: 120 },
  { text: 'tell me all', tokens: 240 },
  { text: 'and then?', tokens: 400 },
] as const;
export const BASE = 'base';
/** The adapter that leaves are trained on. */
export const ROOT_FILE = 'root';

/** PEFT folders by name: on the base, and on top of `root`. */
export interface Files {
  readonly folders: ReadonlyMap<string, string>;
  readonly onBase: readonly string[];
  readonly onRoot: readonly string[];
}

/** @param count of those on the base; half as many are on top of `root`. */
export function writeFiles(folder: string, count: number): Files {
  const shapes = Object.values(TINY_ADAPTERS);
  const folders = new Map<string, string>();
  const write = (name: string, seed: number): string => {
    const at = path.join(folder, name);
    writeTinyAdapter(at, { ...(shapes[seed % shapes.length] as TinyAdapter), seed: 100 + seed });
    folders.set(name, at);
    return name;
  };
  write(ROOT_FILE, 0);
  return {
    folders,
    onBase: Array.from({ length: count }, (_, i) => write(`r${i}`, 1 + i)),
    onRoot: Array.from({ length: Math.ceil(count / 2) }, (_, i) => write(`l${i}`, 501 + i)),
  };
}

/** Answers by chain and prompt. */
export type References = ReadonlyMap<string, readonly Reference[]>;

/** Asks an origin of its own, which nobody strikes, for all answers. @throws Error */
export async function findReferences(base: string, files: Files): Promise<References> {
  const origin = await startStandaloneOrigin({
    base,
    port: 0,
    adapters: [...files.folders].map(([name, folder]) => ({ name, folder })),
    extraArgs: [...SAME_LOGITS, ...files.onRoot.flatMap((name) => ['--parent', `${name}=${ROOT_FILE}`])],
  });
  const { host, port } = origin.target('references', '');
  try {
    const found = new Map<string, Reference[]>();
    for (const chain of [BASE, ...files.folders.keys()]) {
      const model = chain === BASE ? origin.base.id : chain;
      const answers = await Promise.all(
        PROMPTS.map((_, prompt) =>
          ask(`http://${host}:${port}`, { id: 'reference', key: '', model, prompt, stream: false }),
        ),
      );
      found.set(
        chain,
        answers.map(({ status, body }) => {
          const { text, finish, done } = readWhole(body);
          if (status !== 200 || !done) throw new Error(`no reference of ${chain}: ${body}`);
          return { text, finish: String(finish) };
        }),
      );
    }
    const texts = [...found.values()].map((answers) => answers.map(({ text }) => text).join('\n'));
    if (new Set(texts).size < texts.length)
      throw new Error('two chains answer alike: a wrong one is not seen');
    return found;
  } finally {
    await origin.process.stop();
  }
}

export interface Asked {
  /** `x-request-id`. */
  readonly id: string;
  readonly key: string;
  readonly model: string;
  /** Index of {@link PROMPTS}. */
  readonly prompt: number;
  readonly stream: boolean;
  /** When the client goes away, ms; default: it stays. */
  readonly leaveMs?: number;
}

/** The first byte's and the end's `performance.now()`. */
export interface TimedAnswer extends Answer {
  readonly beganAt: number;
  readonly endedAt: number;
}

/** More than an edge takes for an origin that hangs, its stream, and an adapter that must be brought. */
const PATIENCE_MS = 180_000;

/** Sends a request on a connection of its own: a kept one may have been closed by an edge that is gone. */
export function ask(url: string, asked: Asked): Promise<TimedAnswer> {
  const { text, tokens } = PROMPTS[asked.prompt] as (typeof PROMPTS)[number];
  const body = JSON.stringify({
    model: asked.model,
    messages: [{ role: 'user', content: text }],
    temperature: 0,
    max_tokens: tokens,
    ignore_eos: true,
    stream: asked.stream,
    ...(asked.key === '' ? {} : { strict: true }),
  });
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    let answer: http.IncomingMessage | null = null;
    let received = '';
    let beganAt: number | null = null;
    const end = (ended: Answer['ended']) => {
      clearTimeout(patience);
      clearTimeout(leaving);
      const endedAt = performance.now();
      resolve({
        status: answer?.statusCode ?? null,
        stream: asked.stream,
        ended,
        body: received,
        adapter: header(answer, 'x-graft-adapter'),
        stale: header(answer, 'x-graft-degraded') === 'stale',
        beganAt: beganAt ?? endedAt,
        endedAt,
      });
      request.destroy();
    };
    const request = http.request({
      hostname,
      port,
      path: '/v1/chat/completions',
      method: 'POST',
      agent: false,
      headers: {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'x-request-id': asked.id,
        ...(asked.key === '' ? {} : { authorization: `Bearer ${asked.key}` }),
      },
    });
    const patience = setTimeout(() => end('late'), PATIENCE_MS);
    const leaving = asked.leaveMs === undefined ? undefined : setTimeout(() => end('left'), asked.leaveMs);
    request.on('error', (error: NodeJS.ErrnoException) =>
      end(error.code === 'ECONNREFUSED' ? 'refused' : 'broken'),
    );
    request.once('response', (response) => {
      answer = response;
      beganAt = performance.now();
      response.setEncoding('utf8').on('data', (piece: string) => (received += piece));
      response.on('error', () => end('broken'));
      response.once('end', () => end(response.complete ? 'clean' : 'broken'));
    });
    request.end(body);
  });
}

const header = (answer: http.IncomingMessage | null, name: string): string | null => {
  const value = answer?.headers[name];
  return typeof value === 'string' ? value : null;
};
