/** The token with which a page downloads adapters: `gd_v1.<payload>.<mac>`. */
import { z } from 'zod';
import {
  createPageTokens,
  KeyHash,
  type PageGrant,
  type PageTokens,
  TokenId,
} from '../access/page-tokens.ts';
import { MAX_TOKEN_CHARACTERS } from './limits.ts';

export interface DownloadGrant extends PageGrant {
  names: readonly string[];
}

export type DownloadTokens = PageTokens<DownloadGrant>;

const Payload = z
  .tuple([TokenId, KeyHash, z.array(z.string()).min(1), z.string(), z.int()])
  .transform(([id, keyHash, names, origin, expiresAt]): DownloadGrant => ({
    id,
    keyHash,
    names,
    origin,
    expiresAt,
  }));

/**
 * @param secret at least 32 random bytes; creates and verifies tokens.
 * @param accepted further secrets that verify, during a rotation.
 */
export const createDownloadTokens = (
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): DownloadTokens =>
  createPageTokens(
    {
      version: 'gd_v1',
      label: 'graft-download-v1',
      maxCharacters: MAX_TOKEN_CHARACTERS,
      write: (id, { keyHash, names, origin, expiresAt }) => [id, keyHash, names, origin, expiresAt],
      payload: Payload,
    },
    secret,
    accepted,
  );
