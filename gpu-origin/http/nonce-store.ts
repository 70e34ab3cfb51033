import type { NonceMemory } from '../../protocol/index.ts';

/** A worker that sends 1,000 requests a second leaves 180,000 nonces in the longest time that one may live (180 s). */
const MAX_NONCES = 262_144;

/** Nonces that were used already, until their signature would be too old anyway. Bounded: when full it remembers nothing new and says so. */
export class NonceStore {
  private readonly expiries = new Map<string, number>();

  constructor(
    private readonly now: () => number,
    private readonly capacity: number = MAX_NONCES,
  ) {}

  /** @returns 'full' when the nonce cannot be remembered: the request must then be refused, as a repeated one is. */
  readonly remember = (nonce: string, expiresAt: number): NonceMemory => {
    const now = this.now();
    // Insertion order is about the order of expiry (stamps differ by at most two windows).
    for (const [old, expiry] of this.expiries) {
      if (expiry > now) break;
      this.expiries.delete(old);
    }
    if (this.expiries.has(nonce)) return 'seen';
    if (this.expiries.size >= this.capacity) return 'full';
    this.expiries.set(nonce, expiresAt);
    return 'new';
  };
}
