import { Hono } from 'hono';
import { createMiddleware } from 'hono/factory';
import type { BlobPart } from '../../protocol/admin-api/blobs.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import {
  PublicationPartQuery,
  PublicationRequest,
  PUBLISH_PART_BYTES,
  PublishTokenRequest,
  type Publication,
  type PublishToken,
} from '../../protocol/browser-publications.ts';
import { MAX_PARTS } from '../../protocol/limits.ts';
import { mayUseChain } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import type { KeyLedger } from '../access/d1-key-ledger.ts';
import {
  mayCall,
  otherOrigin,
  presentedGrant,
  presentedKeyHash,
  refusedToken,
} from '../access/page-requests.ts';
import { keyIdOf, type AdminCaller, type KeyRecord } from '../access/ports.ts';
import { enterGate, type Gates } from '../access/rate-limits.ts';
import { requireKey } from '../access/require-admin.ts';
import { receiveUpload } from '../blobs/receive-upload.ts';
import { finishBlob } from '../blobs/stored-file.ts';
import { adapterInvalid, modelNotFound } from '../errors.ts';
import {
  announcedLength,
  carryThrough,
  fail,
  methodNotAllowed,
  parseInput,
  readInput,
  requestLife,
  type AppContext,
  type AppEnv,
} from '../http/request.ts';
import type { Index } from '../platform/ports.ts';
import { parentOf } from '../registry/assemble-chain.ts';
import { mayTake } from '../registry/claims.ts';
import type { IntakeDeps, Registry } from '../registry/ports.ts';
import { publishVersion } from '../registry/publish-version.ts';
import type { PageUploads } from './d1-page-uploads.ts';
import {
  LEAST_PART_BYTES,
  MAX_PAGE_SENDS,
  MAX_PUBLICATION_BODY_BYTES,
  MAX_PUBLISH_TOKEN_BODY_BYTES,
  PAGE_PART_DEADLINE_MS,
} from './limits.ts';
import type { PublishGrant, PublishTokens } from './publish-token.ts';

export interface PublicationDeps extends IntakeDeps {
  keys: Index<KeyRecord>;
  keyLedger: KeyLedger;
  grantLedger: GrantLedger;
  gates: Gates;
  publishTokens: PublishTokens;
  pageUploads: PageUploads;
  /** Pages of other origins that may call this edge; `*` = all. */
  corsOrigins?: readonly string[];
}

const TOKENS = '/v1/publish-tokens';
const PUBLICATIONS = '/v1/publications';
const PART = '/v1/publications/parts/:index{[0-9]{1,4}}';
const NO_STORE = { 'cache-control': 'no-store' };

/**
 * Publications by pages: an application's server exchanges its API key, if it has the right, for a token of one name
 * and one page origin. The page sends a file with it, which becomes a staged version: never a live one, and read
 * back by nobody.
 */
export function publicationRoutes(deps: PublicationDeps): Hono<AppEnv> {
  const { publishTokens, pageUploads, registry, now } = deps;
  const routes = new Hono<AppEnv>();

  routes.post(TOKENS, requireKey(deps, deps.gates.downloads), async (context) => {
    const input = await readInput(context.req.raw, PublishTokenRequest, {
      maxBytes: MAX_PUBLISH_TOKEN_BODY_BYTES,
    });
    if (!input.ok) return fail(input.error);
    const keyHash = await presentedKeyHash(context);
    const caller = await publisher(deps, { keyHash, tenant: context.get('caller').tenant });
    if (caller === null) return fail(NO_RIGHT);
    const { name, parent, origin, max_bytes: maxBytes, versions, expires_in: life } = input.value;
    if (!mayCall(deps, context, origin)) return fail(otherOrigin(origin));
    const refused = await nameProblem(registry, { name, tenant: caller.tenant });
    if (refused !== null) return fail(refused);
    const found = await parentOf({ registry, mayUseChain }, { parent, caller, owner: caller.tenant });
    if (!found.ok) return fail(found.error);
    const expiresAt = now() + life;
    const { tenant } = caller;
    const grant = { keyHash, tenant, name, parent, origin, maxBytes, versions, expiresAt };
    const answer: PublishToken = {
      object: 'graft.publish_token',
      token: await publishTokens.issue(grant),
      expires_at: expiresAt,
      name,
      parent,
      origin,
      max_bytes: maxBytes,
      versions,
    };
    return context.json(answer, 200, NO_STORE);
  });
  routes.all(TOKENS, methodNotAllowed('POST'));

  const opened = requireToken(deps);
  routes.put(PART, opened, async (context) => {
    const query = parseInput(PublicationPartQuery, context.req.query());
    if (!query.ok) return fail(query.error);
    const { grant, caller } = context.get('publication');
    const { digest, sha256 } = query.value;
    const index = Number(context.req.param('index'));
    const most = Math.min(PUBLISH_PART_BYTES, grant.maxBytes);
    // A part that does not announce its length counts as the largest.
    const bytes = announcedLength(context.req.raw) ?? most;
    if (bytes > most) return fail(tooLarge('part', most));
    if (index >= MAX_PARTS) return fail(beyondLast(index));
    const claim = await pageUploads.claim({
      token: grant.id,
      tenant: grant.tenant,
      digest,
      bytes: Math.max(bytes, LEAST_PART_BYTES),
      most: MAX_PAGE_SENDS * Math.max(grant.maxBytes, LEAST_PART_BYTES),
      files: grant.versions,
      expiresAt: grant.expiresAt,
    });
    if (claim !== 'taken') return fail(claim === 'spent' ? spent(grant) : SENT_TOO_OFTEN);
    const part = await receiveUpload(deps, {
      request: context.req.raw,
      digest,
      index,
      sha256,
      tenant: caller.tenant,
      sender: pageUploads.sentWith({ token: grant.id, digest }),
      maxBytes: bytes,
      deadlineMs: PAGE_PART_DEADLINE_MS,
    });
    if (!part.ok) return fail(part.error);
    return context.json(part.value satisfies BlobPart, 200, NO_STORE);
  });
  routes.all(PART, methodNotAllowed('PUT'));

  routes.post(PUBLICATIONS, opened, async (context) => {
    const input = await readInput(context.req.raw, PublicationRequest, {
      maxBytes: MAX_PUBLICATION_BODY_BYTES,
    });
    if (!input.ok) return fail(input.error);
    const published = await publish(deps, context, input.value);
    if (!published.ok) return fail(published.error);
    const { answer, created } = published.value;
    return context.json(answer satisfies Publication, created ? 201 : 200, NO_STORE);
  });
  routes.all(PUBLICATIONS, methodNotAllowed('POST'));
  return routes;
}

/** A valid token, used by the page that it is for, of a key that still has the right. */
const requireToken = (deps: PublicationDeps) =>
  createMiddleware<AppEnv>(async (context, next) => {
    const grant = await presentedGrant(context, deps, { tokens: deps.publishTokens, what: 'publish' });
    if (!grant.ok) return fail(grant.error);
    const { tenant, keyHash } = grant.value;
    context.get('trace').note({ tenant, keyId: keyIdOf(keyHash) });
    const own = enterGate(deps.gates.publishTokens, grant.value.id, 'This publish token');
    if (!own.ok) return fail(own.error);
    const entered = enterGate(deps.gates.publications, tenant);
    if (!entered.ok) {
      own.value();
      return fail(entered.error);
    }
    const serve = async (): Promise<Response | undefined> => {
      const caller = await publisher(deps, grant.value);
      if (caller === null) return fail(ENDED);
      context.set('publication', { grant: grant.value, caller });
      await next();
      return undefined;
    };
    // A page that is closed neither stops the work nor frees its slot.
    return carryThrough(context, () =>
      serve().finally(() => {
        own.value();
        entered.value();
      }),
    );
  });

/**
 * Whom a key publishes for: read from D1, never from KV, like an admin key.
 * @returns null if it has ended, or may not publish. @throws StoreUnavailable
 */
async function publisher(
  { keyLedger, grantLedger, now }: PublicationDeps,
  { keyHash, tenant }: Pick<PublishGrant, 'keyHash' | 'tenant'>,
): Promise<AdminCaller | null> {
  const row = await keyLedger.get(keyIdOf(keyHash));
  if (row === null || row.hash !== keyHash || row.tenant !== tenant) return null;
  if (row.kind !== 'api' || row.revoked_at !== null || !row.publish) return null;
  if (row.expires_at !== null && row.expires_at <= now()) return null;
  const { id, scopes, scope_owners } = row;
  // None of its other rights: a page has them not.
  return { keyId: id, tenant, scopes, scope_owners, grants: await grantLedger.usableBy(tenant), root: false };
}

/**
 * Why a page may not publish under a name; null = it may. Only a name of the tenant, or a new one below a name or
 * room of it: what belongs to nobody is not a page's to take. Others' names and free ones look alike.
 */
async function nameProblem(
  registry: Registry,
  { name, tenant }: { name: string; tenant: string },
): Promise<ApiError | null> {
  const row = await registry.name(name);
  if (row !== null) {
    if (row.owner !== tenant || row.removedAt !== null) return notIts(name);
    return row.alias === null ? null : isAlias(name);
  }
  const around = await registry.around(name);
  return around.above?.owner === tenant && mayTake(tenant, around) ? null : notIts(name);
}

/** Completes the file, if the page has sent all of it with this token, and makes it a staged version. */
async function publish(
  deps: PublicationDeps,
  context: AppContext,
  request: PublicationRequest,
): Promise<Result<{ answer: Publication; created: boolean }, ApiError>> {
  const { grant, caller } = context.get('publication');
  const { id: token, name, parent, origin } = grant;
  const { digest, file, training = null } = request;
  if (request.name !== undefined && request.name !== name) return err(notCovered(request.name));
  if (file.bytes > grant.maxBytes) return err(tooLarge('file', grant.maxBytes));
  const upload = await deps.pageUploads.attempt({ token, digest });
  if (upload === 'missing') return err(NOTHING_SENT);
  if (upload === 'spent') return err(TRIED_TOO_OFTEN);
  if (upload.version !== null) return repeated(deps.registry, { name, version: upload.version });
  const refused = await nameProblem(deps.registry, grant);
  if (refused !== null) return err(refused);
  // The tenant may hold the same file: a digest alone gives the page no right to it.
  const sender = deps.pageUploads.sentWith({ token, digest });
  const done = await finishBlob(deps, { digest, record: file, tenant: caller.tenant, sender });
  if (!done.ok) return done;
  const published = await publishVersion(
    { ...deps, mayUseChain },
    {
      request: { name, digest, parent, stage: true, training, why: `from a page of ${origin}` },
      caller,
      life: requestLife(context),
      upload: {
        token,
        keyId: caller.keyId,
        refusal: async () =>
          (await publisher(deps, grant)) === null ? ENDED : nameProblem(deps.registry, grant),
      },
    },
  );
  if (!published.ok) return published;
  const { row, name: now, created } = published.value;
  return ok({ answer: answerOf(row, now.version), created });
}

/** What an earlier request made of the same file. */
async function repeated(
  registry: Registry,
  { name, version }: { name: string; version: number },
): Promise<Result<{ answer: Publication; created: boolean }, ApiError>> {
  const [row, now] = await Promise.all([registry.version(name, version), registry.name(name)]);
  if (row === null || now === null) return err(modelNotFound(`${name}@${version}`, []));
  return ok({ answer: answerOf(row, now.version), created: false });
}

const answerOf = (
  { name, version, digest }: { name: string; version: number; digest: string },
  live: number | null,
): Publication => ({ object: 'graft.publication', name, version, digest, live: version === live });

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not let pages publish adapters. Ask an admin of your tenant to give it that right: graft ' +
    'keys change <id> --publish.',
};

const ENDED = refusedToken('The key that made this publish token has ended or may no longer publish.');

const notIts = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message:
    `This key may not let pages publish '${name}'. It must be a name of the key's tenant, or a new one below ` +
    'a name or room of that tenant.',
});

const isAlias = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `'${name}' is an alias. Pages publish under names that have versions of their own.`,
});

const notCovered = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `The publish token does not cover '${name}'.`,
});

const spent = ({ versions }: PublishGrant): ApiError => ({
  code: 'publish_token_spent',
  message:
    `This publish token is for ${versions === 1 ? 'one version' : `${versions} versions`}, each of one file. ` +
    'Get another token for another file.',
});

const SENT_TOO_OFTEN: ApiError = {
  code: 'publish_token_spent',
  message: 'With this publish token, the file was sent as often as it may. Get another token.',
};

const TRIED_TOO_OFTEN: ApiError = {
  code: 'publish_token_spent',
  message: 'With this publish token, the file was tried as often as it may. Get another token.',
};

const NOTHING_SENT = adapterInvalid(
  'blob_missing',
  'The file was not sent with this publish token.',
  'digest',
);

const beyondLast = (index: number): ApiError =>
  adapterInvalid('too_many_parts', `A file has at most ${MAX_PARTS} parts; part ${index} exceeds that.`);

const tooLarge = (what: 'part' | 'file', most: number): ApiError => ({
  code: 'request_too_large',
  message: `The ${what} is too large: this publish token allows ${most} bytes.`,
});
