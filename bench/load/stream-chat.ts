/** Chat requests of one tenant, whose tokens are told from what else an answer's stream has. */

export interface Tenant {
  readonly url: string;
  readonly key: string;
}

export interface ChatResult {
  /** To the first token, ms; NaN when none came. */
  firstMs: number;
  /** HTTP status; 0 when there was none. */
  status: number;
  /** Why the answer does not count; null when it does. */
  problem: string | null;
}

const TOKEN = /"(?:content|text)":"[^"]/;

/** Sends one chat request and reads its answer to the end. @param signal gives it up. */
export async function streamChat(
  tenant: Tenant,
  body: object | Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
): Promise<ChatResult> {
  const start = performance.now();
  let firstMs = NaN;
  let status = 0;
  let text = '';
  // Thousands of requests would each leave a listener on the one signal.
  const own = new AbortController();
  const giveUp = () => own.abort();
  if (signal.aborted) giveUp();
  else signal.addEventListener('abort', giveUp, { once: true });
  try {
    const response = await fetch(`${tenant.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${tenant.key}`, 'content-type': 'application/json' },
      body: body instanceof Uint8Array ? body : JSON.stringify(body),
      signal: own.signal,
    });
    ({ status } = response);
    const decoder = new TextDecoder();
    for await (const chunk of response.body as ReadableStream<Uint8Array>) {
      // A token's event is short; what an answer has been so far is not kept.
      text = (text + decoder.decode(chunk, { stream: true })).slice(-2_000);
      if (Number.isNaN(firstMs) && status === 200 && TOKEN.test(text)) firstMs = performance.now() - start;
    }
  } catch (error) {
    const given = signal.aborted ? 'given up' : error instanceof Error ? error.message : 'failed';
    return { firstMs, status, problem: given };
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
  if (status !== 200) return { firstMs, status, problem: `status ${status}: ${text.slice(0, 200)}` };
  const ended = text.includes('data: [DONE]') && !text.includes('data: {"error":');
  return { firstMs, status, problem: ended ? null : `no whole answer: ${text.slice(-200)}` };
}
