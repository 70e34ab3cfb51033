import { z } from 'zod';
import { AdapterName, Digest } from '../../protocol/index.ts';
import { GrantQuery, GrantRequest } from '../routes/admin-grants.ts';
import { HistoryQuery } from '../routes/admin-history.ts';
import { OriginsQuery } from '../routes/admin-origins.ts';
import { PinInput } from '../routes/admin-pins.ts';
import { UsageQuery } from '../routes/admin-usage.ts';
import { NameQuery } from '../routes/admin-versions.ts';
import type { Operation, Operations } from './operation.ts';

const of = (tag: string, operation: Omit<Operation, 'tag' | 'key'>): Operation => ({
  ...operation,
  tag,
  key: 'admin',
});

const file = { digest: Digest };
const LIVE = '`name`, `version` (the live one) and `from` (the one before).';
const VERSION =
  'The version: `name`, `version`, `digest`, `chain`, `chain_id`, `parent`, `owner`, `base`, `bytes`, `rank`, `created_at`, `created_by`, `proof`, `evaluation`, `retired_at`, `live`.';
const KEY =
  '`id`, `kind`, `tenant`, `scopes`, `label`, `created_at`, `created_by`, `revoked_at`, `expires_at`, `limits`, `strict`, `degrade`, `replaced_by`';
const GRANT = '`scope`, `tenant`, `owner`, `created_at`, `created_by`';
const PINS = {
  200: {
    description:
      '`pins`: of each `name`, `pinned_at`, `pinned_by`, `live`, and what every origin says (`origins`).',
  },
};

/** What publishers and operators call, without experiments. */
export const ADMIN_OPERATIONS: Operations = {
  'GET /admin/blobs/:digest': of('adapters', {
    id: 'readFile',
    summary: 'How much of a file this tenant has sent.',
    path: file,
    answers: {
      200: { description: '`digest`, `complete` and `parts`: `index`, `bytes`, `sha256` of each.' },
    },
  }),
  'PUT /admin/blobs/:digest/parts/:index{[0-9]{1,4}}': of('adapters', {
    id: 'sendPart',
    summary: 'Sends one part of a file.',
    path: file,
    query: z.strictObject({ sha256: Digest.optional() }),
    body: 'bytes',
    answers: { 200: { description: '`index`, `bytes` and `sha256` of the part.' } },
  }),
  'POST /admin/blobs/:digest': of('adapters', {
    id: 'finishFile',
    summary: 'Closes a file whose parts were sent.',
    path: file,
    body: 'BlobRecord',
    answers: {
      200: { description: 'It was complete before: `digest`, `bytes` and `parts`.' },
      201: { description: 'It is complete now: `digest`, `bytes` and `parts`.' },
    },
  }),
  'POST /admin/versions': of('adapters', {
    id: 'publishVersion',
    summary: 'Publishes a file as the next version of a name.',
    body: 'PublishRequest',
    answers: {
      200: { description: `It was so already. ${VERSION}` },
      201: { description: VERSION },
    },
  }),
  'GET /admin/versions': of('adapters', {
    id: 'listVersions',
    summary: 'Versions of a name, the newest first, or the names of a file.',
    query: z.strictObject({ name: AdapterName.optional(), digest: Digest.optional() }),
    answers: {
      200: { description: 'Of a name `name`, `owner`, `version` and `versions`; of a file `versions`.' },
    },
  }),
  'GET /admin/names': of('adapters', {
    id: 'listNames',
    summary: "The tenant's names.",
    query: NameQuery,
    answers: { 200: { description: '`names`: `name`, `owner`, `version`, `latest`, `alias`; `cursor`.' } },
  }),
  'POST /admin/flip': of('adapters', {
    id: 'flipVersion',
    summary: 'Makes any version the live one.',
    body: 'FlipRequest',
    answers: { 200: { description: LIVE } },
  }),
  'POST /admin/promote': of('adapters', {
    id: 'promoteVersion',
    summary: 'Makes a staged version the live one; the newest above the live one unless given.',
    body: 'PromoteRequest',
    answers: { 200: { description: LIVE } },
  }),
  'POST /admin/rollback': of('adapters', {
    id: 'rollbackVersion',
    summary: 'Makes an earlier version the live one again.',
    body: 'RollbackRequest',
    answers: { 200: { description: LIVE } },
  }),
  'POST /admin/retire': of('adapters', {
    id: 'retireVersion',
    summary: 'Takes a version out of use.',
    body: 'RetireRequest',
    answers: { 200: { description: '`name`, `version` and `retired_at`.' } },
  }),
  'POST /admin/alias': of('adapters', {
    id: 'aliasName',
    summary: 'Makes a name without versions stand for another, or ends that.',
    body: 'AliasRequest',
    answers: { 200: { description: '`name`, `target` and `from`.' } },
  }),
  'GET /admin/history': of('adapters', {
    id: 'listChanges',
    summary: 'What was changed, the newest first: of one name, or of all of the tenant’s.',
    query: HistoryQuery,
    answers: {
      200: {
        description:
          '`changes`: `id`, `name`, `owner`, `at`, `actor`, `action`, `from`, `to`, `target`, `why`; `before` goes on.',
      },
    },
  }),
  'POST /admin/verify': of('adapters', {
    id: 'verifyVersion',
    summary: 'Has every origin compute a version’s proof again.',
    body: 'VerifyVersionRequest',
    answers: {
      200: {
        description:
          '`name`, `version`, `digest` and `origins`: `id`, `ok`, `reason`, `kl`, `max_difference` of each.',
      },
    },
  }),
  'POST /admin/evaluate': of('adapters', {
    id: 'evaluateFile',
    summary: 'Scores a file that was sent on prompts with known answers.',
    body: 'EvaluateFileRequest',
    answers: { 200: { description: 'A score for each row, in order.', schema: 'EvaluateAnswer' } },
  }),
  'GET /admin/grants': of('grants', {
    id: 'listGrants',
    summary: 'What the tenant gave, or was given.',
    query: GrantQuery,
    answers: { 200: { description: `\`grants\`: ${GRANT}; \`cursor\`.` } },
  }),
  'POST /admin/grants': of('grants', {
    id: 'grantAdapters',
    summary: 'Lets another tenant, or everybody (`*`), use a name or a room.',
    body: 'GrantRequest',
    answers: {
      200: { description: `It was given before: ${GRANT}.` },
      201: { description: `${GRANT}.` },
    },
  }),
  'DELETE /admin/grants': of('grants', {
    id: 'revokeGrant',
    summary: 'Takes a grant back.',
    query: GrantRequest,
    answers: { 204: { description: 'It is gone.', body: 'none' } },
  }),
  'POST /admin/keys': of('keys', {
    id: 'createKey',
    summary: 'Makes a key, or registers one by its hash.',
    body: 'KeyRequest',
    answers: {
      200: { description: `The hash was known: ${KEY}.` },
      201: { description: `${KEY}, and \`key\`, which is shown this once.` },
    },
  }),
  'POST /admin/keys/rotate': of('keys', {
    id: 'rotateKey',
    summary: 'Makes a key in the place of another, which ends after `grace` ms.',
    body: 'RotateKeyRequest',
    answers: { 201: { description: `${KEY}, \`key\`, \`replaces\` and \`old_expires_at\`.` } },
  }),
  'POST /admin/keys/change': of('keys', {
    id: 'changeKey',
    summary: 'Changes what a key may do; what is not given stays.',
    body: 'ChangeKeyRequest',
    answers: { 200: { description: `${KEY}.` } },
  }),
  'GET /admin/keys': of('keys', {
    id: 'listKeys',
    summary: "The tenant's keys.",
    answers: { 200: { description: `\`keys\`: ${KEY}.` } },
  }),
  'DELETE /admin/keys/:id': of('keys', {
    id: 'revokeKey',
    summary: 'Revokes a key.',
    answers: { 204: { description: 'It is revoked.', body: 'none' } },
  }),
  'GET /admin/usage': of('operation', {
    id: 'readUsage',
    summary: 'Requests and tokens by key, tenant, name, version, day or hour; whole hours.',
    query: UsageQuery,
    answers: {
      200: {
        description:
          '`by`, `from`, `to`, `truncated` and `rows`: `group`, `requests`, `errors`, `prompt_tokens`, `completion_tokens`, `total_tokens`.',
      },
    },
  }),
  'GET /admin/origins': of('operation', {
    id: 'listOrigins',
    summary: 'The origins, and to the bootstrap key what they hold and how busy they are.',
    query: OriginsQuery,
    answers: { 200: { description: '`origins`: `id`, `base`, `residents`, and `figures` where asked for.' } },
  }),
  'GET /admin/pins': of('operation', {
    id: 'listPins',
    summary: 'Names that stay in the memory of every origin. Bootstrap key only.',
    answers: PINS,
  }),
  'POST /admin/pins': of('operation', {
    id: 'pinName',
    summary: 'Pins a name. Bootstrap key only.',
    body: 'PinRequest',
    answers: PINS,
  }),
  'DELETE /admin/pins': of('operation', {
    id: 'unpinName',
    summary: 'Unpins a name. Bootstrap key only.',
    query: PinInput,
    answers: PINS,
  }),
  'POST /admin/repair': of('operation', {
    id: 'repairPage',
    summary: 'Compares a page of KV with the system of record and mends it. Bootstrap key only.',
    body: 'RepairRequest',
    answers: { 200: { description: '`step`, `checked`, `mended` and `cursor`, which goes on.' } },
  }),
  'POST /admin/gc': of('operation', {
    id: 'collectGarbage',
    summary: 'Deletes a page of files that nothing needs. Bootstrap key only.',
    body: 'CollectGarbageRequest',
    answers: { 200: { description: '`files`: `digest`, `bytes`, `action`, `deletable_at`; `cursor`.' } },
  }),
  'GET /admin/openapi.json': of('operation', {
    id: 'readOpenApi',
    summary: 'This document.',
    answers: { 200: { description: 'An OpenAPI 3.1 document.' } },
  }),
};
