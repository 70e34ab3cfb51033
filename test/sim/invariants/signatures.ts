/** What origins do with signatures: one that comes again opens nothing, a good one is taken. */
import { SIGNATURE_HEADER } from '../../../protocol/signature.ts';
import type { Fail } from './fail.ts';
import type { Exchange } from '../world/network.ts';
import type { Life } from '../world/time.ts';

const UNAUTHORIZED = 401;
/** After this an origin no longer refuses signatures from before its start, ms. */
const STARTED_MS = 10_000;
/** An edge signs for an origin's start after its first refusal, or after as many as are lost on the way. */
const REFUSALS = 4;

export function watchSignatures(fail: Fail): (exchange: Exchange) => void {
  /** Signatures that an origin's process has taken. */
  const taken = new WeakMap<Life, Set<string>>();
  /** Refusals that an edge has had from an origin's process, one after the other. */
  const refused = new WeakMap<Life, Map<Life, { times: number; heardAt: number }>>();
  return ({ from, to, what, headers, status, isCopied, sentAt, at }) => {
    const signature = headers.get(SIGNATURE_HEADER);
    if (signature === null) return;
    if (status !== UNAUTHORIZED) {
      const known = taken.get(to) ?? new Set();
      taken.set(to, known);
      if (known.has(signature))
        fail('6 a signature opens once', `${to.name} has taken ${what} twice, with the same signature`);
      known.add(signature);
      refused.get(from)?.delete(to);
      return;
    }
    // A request that arrives twice is refused once, whichever copy comes first.
    if (isCopied || at - to.born < STARTED_MS) return;
    const had = refused.get(from) ?? new Map<Life, { times: number; heardAt: number }>();
    refused.set(from, had);
    const before = had.get(to) ?? { times: 0, heardAt: -Infinity };
    // Sent before the answer to another was there: it could not know better.
    if (sentAt <= before.heardAt) return;
    had.set(to, { times: before.times + 1, heardAt: at + 1_000 });
    if (before.times + 1 >= REFUSALS)
      fail(
        '9 an origin that is up serves',
        `${to.name}, up for ${at - to.born} ms, refused ${from.name} ${before.times + 1} times`,
      );
  };
}
