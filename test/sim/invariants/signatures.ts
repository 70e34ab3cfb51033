/** What origins do with signatures: one that comes again opens nothing, a good one is taken. */
import { SIGNATURE_HEADER } from '../../../protocol/signature.ts';
import type { Fail } from './fail.ts';
import type { FaultKind, Faults } from '../world/faults.ts';
import type { Exchange } from '../world/network.ts';
import type { Life } from '../world/time.ts';

const UNAUTHORIZED = 401;
/** What was sent so long after an origin's start has not been signed before it, ms. */
const STARTED_MS = 5_000;
/** An edge signs for an origin's start after its first refusal that it reads: others are lost where a limit ends requests. */
const REFUSALS = 3;
const LOSES: readonly FaultKind[] = ['net-cut', 'net-silent', 'net-delay', 'net-twice'];

export function watchSignatures(fail: Fail, faults: Faults): (exchange: Exchange) => void {
  /** Signatures that an origin's process has taken. */
  const taken = new WeakMap<Life, Set<string>>();
  /** Refusals that an edge has had from an origin's process, one after the other. */
  const refused = new WeakMap<Life, Map<Life, { isRead: (() => boolean)[]; heardAt: number }>>();
  return ({ from, to, what, headers, status, isCopied, isRead, sentAt, at }) => {
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
    if (isCopied || sentAt - to.born < STARTED_MS) return;
    // It was stopped meanwhile, and signatures end.
    if (at - sentAt > STARTED_MS) return;
    const origin = /\bo\d\b/.exec(to.name)?.[0] ?? '';
    if (LOSES.some((kind) => faults.during(kind, origin, sentAt, sentAt))) return;
    const had = refused.get(from) ?? new Map<Life, { isRead: (() => boolean)[]; heardAt: number }>();
    refused.set(from, had);
    const before = had.get(to) ?? { isRead: [], heardAt: -Infinity };
    // Sent before the answer to another was there: it could not know better.
    if (sentAt <= before.heardAt) return;
    const times = before.isRead.filter((wasRead) => wasRead()).length + 1;
    had.set(to, { isRead: [...before.isRead, isRead], heardAt: at + 1_000 });
    if (times >= REFUSALS)
      fail(
        '9 an origin that is up serves',
        `${to.name}, up for ${at - to.born} ms, refused ${from.name} ${times} times`,
      );
  };
}
