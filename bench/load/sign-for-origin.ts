import { sha256Hex, type ChainEntry } from '../../protocol/identity.ts';
import { sign, SIGNATURE_HEADER, type SigningKey } from '../../protocol/signature.ts';

/** An origin behind an edge, and what it takes to ask it as its edge does. */
export interface SignedOrigin {
  url: string;
  id: string;
  signingKey: SigningKey;
}

/** @param path such as `/v1/completions`. @returns the body in the edge's envelope, and the header that signs both. */
export async function signForOrigin(
  origin: SignedOrigin,
  ask: {
    path: string;
    request: object;
    chain: readonly ChainEntry[];
    model: string;
    requestId: string;
    tenant?: string;
  },
): Promise<{ text: string; headers: Record<string, string> }> {
  const { path, request, chain, model, requestId, tenant = 'bench' } = ask;
  const text = JSON.stringify({ request, graft: { chain, tenant, request_id: requestId, model } });
  const signed = {
    originId: origin.id,
    method: 'POST',
    pathAndQuery: path,
    bodyHash: await sha256Hex(text),
  };
  return { text, headers: { [SIGNATURE_HEADER]: await sign(origin.signingKey, signed, Date.now()) } };
}
