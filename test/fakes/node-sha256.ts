import { createHash } from 'node:crypto';
import type { Sha256 } from '../../worker/platform/ports.ts';

/** What workerd's own class does in the worker. */
export function createSha256(): Sha256 {
  const hash = createHash('sha256');
  return {
    update: (chunk) => void hash.update(chunk),
    digest: async () => hash.digest('hex'),
  };
}
