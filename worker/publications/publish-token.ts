/** The token with which a page publishes: `gp_v1.<payload>.<mac>`. */
import { z } from 'zod';
import type { AdminCaller } from '../access/ports.ts';
import {
  createPageTokens,
  KeyHash,
  type PageGrant,
  type PageTokens,
  TokenId,
} from '../access/page-tokens.ts';
import { MAX_PUBLISH_TOKEN_CHARACTERS } from './limits.ts';

export interface PublishGrant extends PageGrant {
  /** The key's. */
  tenant: string;
  name: string;
  /** Name that it was trained on; null = the base. */
  parent: string | null;
  /** Largest file. */
  maxBytes: number;
  /** How many versions it makes, at most. */
  versions: number;
}

/** What a token opens, and whom it acts for. */
export interface PageCaller {
  grant: PublishGrant;
  /** The tenant that owns the name. */
  caller: AdminCaller;
}

export type PublishTokens = PageTokens<PublishGrant>;

const Payload = z
  .tuple([
    TokenId,
    KeyHash,
    z.string(),
    z.string(),
    z.string().nullable(),
    z.string(),
    z.int(),
    z.int(),
    z.int(),
  ])
  .transform(([id, keyHash, tenant, name, parent, origin, maxBytes, versions, expiresAt]): PublishGrant => ({
    id,
    keyHash,
    tenant,
    name,
    parent,
    origin,
    maxBytes,
    versions,
    expiresAt,
  }));

/**
 * @param secret at least 32 random bytes; creates and verifies tokens.
 * @param accepted further secrets that verify, during a rotation.
 */
export const createPublishTokens = (
  secret: Uint8Array<ArrayBuffer>,
  accepted: readonly Uint8Array<ArrayBuffer>[] = [],
): PublishTokens =>
  createPageTokens(
    {
      version: 'gp_v1',
      label: 'graft-publish-v1',
      maxCharacters: MAX_PUBLISH_TOKEN_CHARACTERS,
      write: (id, { keyHash, tenant, name, parent, origin, maxBytes, versions, expiresAt }) => [
        id,
        keyHash,
        tenant,
        name,
        parent,
        origin,
        maxBytes,
        versions,
        expiresAt,
      ],
      payload: Payload,
    },
    secret,
    accepted,
  );
