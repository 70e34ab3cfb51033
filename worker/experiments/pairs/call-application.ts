/** The application as the judge: asked once, the answers in an order of chance, by a call that it can check. */
import { z } from 'zod';
import type { Fetch } from '../../origins/signed-fetch.ts';
import { webhookProblem, type WebhookSigner } from '../webhooks.ts';
import type { Turn } from './conversation.ts';
import { CALL_TIMEOUT_MS, MAX_CALL_ANSWER_BYTES } from './limits.ts';
import type { Judged } from './ports.ts';

const Answer = z.object({ choice: z.enum(['a', 'b', 'tie']) });

export interface CallDeps {
  /** Reaches addresses that tenants wrote down. */
  callOut: Fetch;
  signer: WebhookSigner;
  now: () => number;
  newId: () => string;
  /** A coin. */
  heads: () => boolean;
  /** Whether plain http to this machine itself is an address. */
  loopback: boolean;
}

/**
 * Never follows a redirect: what was checked is the address that is called. Whatever goes wrong is a failure.
 * @param params.signal ends it as well as {@link CALL_TIMEOUT_MS} does.
 */
export async function callApplication(
  deps: CallDeps,
  params: {
    url: string;
    experiment: string;
    name: string;
    prompt: readonly Turn[];
    control: string;
    treatment: string;
    signal: AbortSignal;
  },
): Promise<Judged | { failure: 'judge' | 'unclear' }> {
  const { url, experiment, name, prompt, control, treatment } = params;
  const { loopback, signer } = deps;
  // Checked when the experiment was made, by this or by an earlier edge with other settings.
  if (webhookProblem(url, loopback) !== null) return { failure: 'judge' };
  const treatmentFirst = deps.heads();
  const [a, b] = treatmentFirst ? [treatment, control] : [control, treatment];
  const id = `pair_${deps.newId()}`;
  const body = JSON.stringify({ type: 'pair', id, experiment, name, prompt, answers: { a, b } });
  const text = await read(
    deps,
    url,
    {
      method: 'POST',
      redirect: 'manual',
      headers: {
        'content-type': 'application/json',
        'user-agent': 'graft',
        ...(await signer.headers({ experiment, url }, { id, at: deps.now(), body })),
      },
      body,
    },
    params.signal,
  );
  if (text === null) return { failure: 'judge' };
  const choice = parsed(text)?.choice ?? null;
  if (choice === null) return { failure: 'unclear' };
  const isTie = choice === 'tie';
  const won = (choice === 'a') === treatmentFirst;
  return {
    result: isTie ? 'tie' : won ? 'win' : 'loss',
    same: false,
    choices: isTie ? 0 : 1,
    first: choice === 'a' ? 1 : 0,
    agreed: null,
  };
}

/** @returns null unless it answered 200, in time, with no more than {@link MAX_CALL_ANSWER_BYTES}. */
async function read(
  { callOut }: CallDeps,
  url: string,
  init: RequestInit,
  ends: AbortSignal,
): Promise<string | null> {
  const signal = AbortSignal.any([ends, AbortSignal.timeout(CALL_TIMEOUT_MS)]);
  try {
    const response = await callOut(url, { ...init, signal });
    if (response.status !== 200) {
      await response.body?.cancel();
      return null;
    }
    const decoder = new TextDecoder();
    let text = '';
    let bytes = 0;
    for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      // Leaving the loop ends the reading.
      if (bytes > MAX_CALL_ANSWER_BYTES) return null;
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  } catch {
    return null;
  }
}

function parsed(text: string): z.infer<typeof Answer> | null {
  try {
    return Answer.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
