import type { ChainEntry } from '../../protocol/identity.ts';
import type { SignedOrigin } from './sign-for-origin.ts';

/** A server under load, and how to ask it for tokens. */
export interface Target {
  /** As it stands in the table. */
  label: string;
  /** `openai`: `POST /v1/completions`; `llama`: llama.cpp's own `/completion`, which takes an adapter a request. */
  kind: 'openai' | 'llama';
  host: string;
  port: number;
  /** Adapter i is served as `<prefix>i` (openai only; llama.cpp numbers them). */
  prefix: string;
  /** The base model's id, as `model`. */
  base: string;
  key?: string;
  /** An origin that is asked as its edge does, instead of with a key. */
  signed?: SignedOrigin & { chainOf(adapter: number | null): readonly ChainEntry[] };
}

/** Part of a target that speaks OpenAI's API there. @param url such as `http://127.0.0.1:8787`. */
export function targetAt(label: string, url: string): Pick<Target, 'label' | 'kind' | 'host' | 'port'> {
  const { hostname, port } = new URL(url);
  return { label, kind: 'openai', host: hostname, port: Number(port === '' ? 80 : port) };
}

export interface Ask {
  prompt: string;
  tokens: number;
  /** Which adapter; null = the base model. */
  adapter: number | null;
  /** A turn of a chat: the server may keep what it has read, and the answer's text is returned. Default: no. */
  chat?: boolean;
}

/** @returns path and JSON body of a greedy, streaming request for exactly `tokens` tokens. */
export function requestFor(target: Target, ask: Ask): { path: string; body: string } {
  if (target.kind === 'llama') {
    return {
      path: '/completion',
      body: JSON.stringify({
        prompt: ask.prompt,
        n_predict: ask.tokens,
        temperature: 0,
        ignore_eos: true,
        stream: true,
        cache_prompt: ask.chat === true,
        // Where none is named it adds all that it has loaded, each with scale 1.
        lora: ask.adapter === null ? [{ id: 0, scale: 0 }] : [{ id: ask.adapter, scale: 1 }],
      }),
    };
  }
  return {
    path: '/v1/completions',
    body: JSON.stringify({
      model: ask.adapter === null ? target.base : `${target.prefix}${ask.adapter}`,
      prompt: ask.prompt,
      max_tokens: ask.tokens,
      temperature: 0,
      ignore_eos: true,
      stream: true,
      stream_options: { include_usage: true },
    }),
  };
}

/**
 * @param text `NAME=openai:PORT[:PREFIX[:BASE]]` or `NAME=llama:PORT`, such as `vllm=openai:8082:r8-`.
 * @returns null when it has another form.
 */
export function parsePeer(text: string): Target | null {
  const match = /^([\w.-]+)=(openai|llama):(\d{1,5})(?::([^:]*))?(?::(.+))?$/.exec(text);
  if (match === null) return null;
  const [, label = '', kind, port, prefix = '', base = 'base'] = match;
  return { label, kind: kind as Target['kind'], host: '127.0.0.1', port: Number(port), prefix, base };
}
