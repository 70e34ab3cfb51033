import { randomBytes } from 'node:crypto';
import { generateApiKey, hashApiKey } from '../../protocol/index.ts';

/** As many bytes as SHA-256's output, beyond which HMAC gains nothing. */
const SECRET_BYTES = 32;
const secret = (): string => randomBytes(SECRET_BYTES).toString('base64');

export interface Secrets {
  /** For the edge, by name. */
  worker: Record<'GRAFT_MAC_KEY' | 'GRAFT_ORIGIN_KEYS' | 'GRAFT_ADMIN_KEY_SHA256', string>;
  /** Lines of `NAME=value`. */
  originEnv: string;
  adminKey: string;
}

/** @param now names the origins' key, so that two of them can be told apart when they are rotated. */
export async function makeSecrets(now: Date): Promise<Secrets> {
  const adminKey = generateApiKey('ga');
  const originKeys = `k${now.toISOString().slice(0, 10).replaceAll('-', '')}:${secret()}`;
  return {
    worker: {
      GRAFT_MAC_KEY: secret(),
      GRAFT_ORIGIN_KEYS: originKeys,
      GRAFT_ADMIN_KEY_SHA256: await hashApiKey(adminKey),
    },
    originEnv: `GRAFT_ORIGIN_KEYS=${originKeys}\n`,
    adminKey,
  };
}
