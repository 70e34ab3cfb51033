import type { z } from 'zod';
import { err, ok, type Result } from '../../protocol/result.ts';
import { jsonOf, noAnswer, oddAnswer, problemOf, unsendableKey, type Problem } from '../model/problem.ts';

export interface Client {
  /** @param path with its query. */
  get<T>(path: string, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
  post<T>(path: string, body: unknown, schema: z.ZodType<T>): Promise<Result<T, Problem>>;
}

/** @param key goes into a header, never into an address. @param fetch the page's unless given. */
export function createClient(key: string, fetch: typeof globalThis.fetch = globalThis.fetch): Client {
  async function send<T>(path: string, init: RequestInit, schema: z.ZodType<T>): Promise<Result<T, Problem>> {
    if (!/^[\x21-\x7e]+$/.test(key)) return err(unsendableKey());
    const headers = {
      authorization: `Bearer ${key}`,
      ...(init.body === undefined ? {} : { 'content-type': 'application/json' }),
    };
    let status: number;
    let text: string;
    try {
      const response = await fetch(path, { ...init, headers, cache: 'no-store', credentials: 'omit' });
      status = response.status;
      text = await response.text();
    } catch {
      return err(noAnswer());
    }
    if (status < 200 || status > 299) return err(problemOf(status, text));
    const parsed = schema.safeParse(jsonOf(text));
    return parsed.success ? ok(parsed.data) : err(oddAnswer(path));
  }
  return {
    get: (path, schema) => send(path, { method: 'GET' }, schema),
    post: (path, body, schema) => send(path, { method: 'POST', body: JSON.stringify(body) }, schema),
  };
}
