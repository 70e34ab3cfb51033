/** A tiny stack with one adapter, and a request to it that must get the same answer whatever else happens. */
import path from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import {
  TINY_ADAPTERS,
  TINY_LLAMA,
  writeTinyAdapter,
  type TinyAdapter,
  type TinyShape,
} from '../fixtures/tiny-base.ts';
import { readBytes, send, startTinyStack, type Answer, type TinyStack } from './tiny-stack.ts';

export const CHAT = '/v1/chat/completions';
export const ATTENTION = TINY_ADAPTERS['attention'] as TinyAdapter;

export const bearer = (key: string): Record<string, string> => ({ authorization: `Bearer ${key}` });

/** The canary's body, with other or further fields. */
export const chatBody = (fields: Record<string, unknown> = {}): string =>
  JSON.stringify({
    model: 'alice/notes',
    messages: [{ role: 'user', content: 'hello there' }],
    temperature: 0,
    max_tokens: 12,
    ...fields,
  });

export function textOf(answer: Answer): string {
  expect(answer.text, `status ${answer.status}`).toContain('"choices"');
  const { choices } = JSON.parse(answer.text) as { choices: { message: { content: string } }[] };
  return choices[0]?.message.content ?? '';
}

interface PostOptions {
  key?: string;
  target?: string;
  headers?: Record<string, string>;
}

export interface CanaryStack {
  stack: TinyStack;
  /** What the canary answers. */
  text: string;
  /** Sends a body to the edge, as a chat unless `target` says otherwise. */
  post(body: string | readonly string[], options?: PostOptions): Promise<Answer>;
  chat(fields?: Record<string, unknown>, options?: PostOptions): Promise<Answer>;
  /** With the admin key; bytes are sent as they are, everything else as JSON. */
  admin(target: string, body?: unknown, method?: string): Promise<Answer>;
  /** Writes a PEFT folder into the stack's. @returns its path. */
  adapterFolder(name: string, adapter: TinyAdapter, shape?: TinyShape): string;
  canonical(folder: string): Promise<{ digest: string; bytes: Uint8Array<ArrayBuffer> }>;
  publish(folder: string, name: string): Promise<void>;
}

/** Starts the stack before the file's tests, asks the canary after each of them, and removes the stack at the end. */
export function useCanaryStack(originArgs = ''): CanaryStack {
  const rig: CanaryStack = {
    stack: undefined as unknown as TinyStack,
    text: '',
    post: (body, options = {}) =>
      send(rig.stack.local.url, options.target ?? CHAT, {
        body,
        headers: {
          ...bearer(options.key ?? rig.stack.local.key),
          'content-type': 'application/json',
          ...options.headers,
        },
      }),
    chat: (fields, options) => rig.post(chatBody(fields), options),
    admin: (target, body, method) =>
      send(rig.stack.local.url, target, {
        ...(body === undefined ? {} : { body: body instanceof Uint8Array ? body : JSON.stringify(body) }),
        ...(method === undefined ? {} : { method }),
        headers: bearer(rig.stack.local.adminKey),
      }),
    adapterFolder(name, adapter, shape = TINY_LLAMA) {
      const folder = path.join(rig.stack.folder, name);
      writeTinyAdapter(folder, adapter, shape);
      return folder;
    },
    async canonical(folder) {
      const [configJson, weights] = await Promise.all([
        readBytes(path.join(folder, 'adapter_config.json')),
        readBytes(path.join(folder, 'adapter_model.safetensors')),
      ]);
      const files = { configJson: new TextDecoder().decode(configJson), weights };
      return packAdapter({ files, baseId: 'tiny-base', parentChainId: null });
    },
    async publish(folder, name) {
      const { code, stderr } = await rig.stack.graft('publish', folder, '--name', name);
      expect(code, stderr).toBe(0);
    },
  };
  beforeAll(async () => {
    rig.stack = await startTinyStack(originArgs);
    await rig.publish(rig.adapterFolder('first', ATTENTION), 'alice/notes');
    rig.text = textOf(await rig.chat());
  });
  afterEach(async () => {
    expect(textOf(await rig.chat())).toBe(rig.text);
    expect((await send(rig.stack.local.originUrl, '/readyz')).status).toBe(200);
  });
  afterAll(() => rig.stack.remove());
  return rig;
}
