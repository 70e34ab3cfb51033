/** `graft dev` over a tiny generated base, and requests to it that no well-behaved client would make. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import type { LocalFile } from '../../cli/connection.ts';
import { readKeysFile, type LocalKeys } from '../../cli/local/graft-folder.ts';
import type { ErrorBody } from '../../protocol/api-error.ts';
import { TINY_LLAMA, writeTinyBase, type TinyShape } from '../fixtures/tiny-base.ts';
import { runGraft, startGraft, type Finished, type GraftProcess } from './graft-process.ts';

export interface TinyStack {
  readonly folder: string;
  dev: GraftProcess;
  local: LocalFile & { dashboard: string | null };
  readonly keys: LocalKeys;
  graft(...args: string[]): Promise<Finished>;
  /** Starts `graft dev` again in the same folder, after it has ended. */
  restart(): Promise<void>;
  remove(): Promise<void>;
}

/** Adapters of the tests move keys and values many times further than the tiny base's int8 ones reach. */
export const EXACT_KV = ['--kv', 'f32'];

/** @param originArgs further flags for the origin. @param devArgs of `graft dev`. @param shape of the base. @param more of its environment. */
export async function startTinyStack(
  originArgs = '',
  devArgs: readonly string[] = [],
  shape: TinyShape = TINY_LLAMA,
  more: Record<string, string> = {},
): Promise<TinyStack> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  writeTinyBase(path.join(folder, 'tiny-base'), shape);
  const env = { ...more, GRAFT_CACHE: path.join(folder, 'cache') };
  const start = async () => {
    const ports = ['--port', '0', '--origin-port', '0'];
    const kv = originArgs.includes('--engine vllm') ? [] : EXACT_KV;
    const rest = [...kv, ...devArgs, ...(originArgs === '' ? [] : [`--origin-arg=${originArgs}`])];
    const dev = startGraft(['dev', ...ports, '--no-examples', '--json', '--base', 'tiny-base', ...rest], {
      cwd: folder,
      env,
    });
    const local = JSON.parse((await dev.sees(/^\{.*\}$/m))[0]) as TinyStack['local'];
    return { dev, local };
  };
  const stack: TinyStack = {
    folder,
    ...(await start()),
    keys: (await readKeysFile(folder)) as LocalKeys,
    graft: (...args) => runGraft(args, { cwd: folder, env }),
    async restart() {
      Object.assign(stack, await start());
    },
    async remove() {
      await stack.dev.killGroup();
      await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    },
  };
  return stack;
}

export const readBytes = async (file: string): Promise<Uint8Array<ArrayBuffer>> =>
  new Uint8Array(await readFile(file));

export interface Answer {
  status: number;
  headers: http.IncomingHttpHeaders;
  text: string;
  /** The body's `error`. */
  error: ErrorBody['error'];
}

/**
 * Sends a request exactly as it is given: the path is not normalised.
 * @param body several pieces are sent chunked, without a length.
 */
export function send(
  base: string,
  target: string,
  options: {
    method?: string;
    headers?: Record<string, string>;
    body?: string | Uint8Array | readonly (string | Uint8Array)[];
  } = {},
): Promise<Answer> {
  const { body } = options;
  const pieces = body === undefined ? [] : Array.isArray(body) ? (body as string[]) : [body as string];
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const request = http.request({
      hostname,
      port,
      path: target,
      method: options.method ?? (body === undefined ? 'GET' : 'POST'),
      headers: {
        ...(pieces.length === 1 ? { 'content-length': String(Buffer.byteLength(pieces[0] as string)) } : {}),
        ...options.headers,
      },
    });
    request.once('error', reject);
    request.once('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => (text += piece));
      response.once('error', reject).once('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          get error() {
            return (JSON.parse(text) as ErrorBody).error;
          },
        }),
      );
    });
    for (const piece of pieces) request.write(piece);
    request.end();
  });
}
