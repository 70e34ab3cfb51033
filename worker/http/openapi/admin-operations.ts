import { z } from 'zod';
import { AdapterName, Digest } from '../../../protocol/index.ts';
import { HistoryQuery } from '../../registry/history-routes.ts';
import { OriginsQuery } from '../../origins/routes.ts';
import { PinInput } from '../../origins/pins-routes.ts';
import { TenantLimitsQuery } from '../../metering/tenant-limits-routes.ts';
import { UsageQuery } from '../../metering/usage-routes.ts';
import { NameQuery } from '../../registry/versions-routes.ts';
import { adminOperation as of, type Operations } from './operation.ts';

const file = { digest: Digest };
const FLIPPED = {
  200: { description: 'The version that is live now, and the one before.', schema: 'FlipAnswer' },
} as const;
const PINS = {
  200: {
    description: 'Every pinned name as it is now, with what each origin says of it.',
    schema: 'PinList',
  },
} as const;

/** What publishers and operators call, without experiments. */
export const ADMIN_OPERATIONS: Operations = {
  'GET /admin/blobs/:digest': of('adapters', {
    id: 'readFile',
    summary: 'How much of a file this tenant has sent.',
    path: file,
    answers: {
      200: { description: 'What was sent, and whether the file was closed.', schema: 'BlobState' },
    },
  }),
  'PUT /admin/blobs/:digest/parts/:index{[0-9]{1,4}}': of('adapters', {
    id: 'sendPart',
    summary: 'Sends one part of a file.',
    path: file,
    query: z.strictObject({ sha256: Digest.optional() }),
    body: 'bytes',
    answers: { 200: { description: 'The part, as it arrived.', schema: 'BlobPart' } },
  }),
  'POST /admin/blobs/:digest': of('adapters', {
    id: 'finishFile',
    summary: 'Closes a file whose parts were sent.',
    path: file,
    body: 'BlobRecord',
    answers: {
      200: { description: 'It was complete before.', schema: 'FinishedBlob' },
      201: { description: 'It is complete now.', schema: 'FinishedBlob' },
    },
  }),
  'POST /admin/versions': of('adapters', {
    id: 'publishVersion',
    summary: 'Publishes a file as the next version of a name.',
    body: 'PublishRequest',
    answers: {
      200: { description: 'The version, which was there already.', schema: 'PublishedVersion' },
      201: { description: 'The new version.', schema: 'PublishedVersion' },
    },
  }),
  'GET /admin/versions': of('adapters', {
    id: 'listVersions',
    summary: 'Versions of a name, the newest first, or the names of a file.',
    query: z.strictObject({ name: AdapterName.optional(), digest: Digest.optional() }),
    answers: {
      200: { description: 'The versions of the name, or of the file.', schema: 'Versions' },
    },
  }),
  'GET /admin/names': of('adapters', {
    id: 'listNames',
    summary: "The tenant's names.",
    query: NameQuery,
    answers: { 200: { description: "A page of them, in the names' order.", schema: 'NameList' } },
  }),
  'POST /admin/flip': of('adapters', {
    id: 'flipVersion',
    summary: 'Makes any version the live one.',
    body: 'FlipRequest',
    answers: FLIPPED,
  }),
  'POST /admin/promote': of('adapters', {
    id: 'promoteVersion',
    summary: 'Makes a staged version the live one; the newest above the live one unless given.',
    body: 'PromoteRequest',
    answers: FLIPPED,
  }),
  'POST /admin/rollback': of('adapters', {
    id: 'rollbackVersion',
    summary: 'Makes an earlier version the live one again.',
    body: 'RollbackRequest',
    answers: FLIPPED,
  }),
  'POST /admin/retire': of('adapters', {
    id: 'retireVersion',
    summary: 'Takes a version out of use.',
    body: 'RetireRequest',
    answers: { 200: { description: 'The version, and since when it is retired.', schema: 'RetireAnswer' } },
  }),
  'POST /admin/alias': of('adapters', {
    id: 'aliasName',
    summary: 'Makes a name without versions stand for another, or ends that.',
    body: 'AliasRequest',
    answers: {
      200: { description: 'What the name stands for now, and before.', schema: 'AliasAnswer' },
    },
  }),
  'POST /admin/strict': of('adapters', {
    id: 'markStrict',
    summary: 'Lets no missing name below this one be answered by it or by what is above it, or ends that.',
    body: 'StrictRequest',
    answers: {
      200: { description: 'Whether the name is strict now, and was before.', schema: 'StrictAnswer' },
    },
  }),
  'GET /admin/history': of('adapters', {
    id: 'listChanges',
    summary: 'What was changed, the newest first: of one name, or of all of the tenant’s.',
    query: HistoryQuery,
    answers: {
      200: { description: 'A page of changes; `before` goes on.', schema: 'ChangeList' },
    },
  }),
  'POST /admin/verify': of('adapters', {
    id: 'verifyVersion',
    summary: 'Has every origin compute a version’s proof again.',
    body: 'VerifyVersionRequest',
    answers: {
      200: { description: 'The version, and what every origin says of it.', schema: 'VerifyVersionAnswer' },
    },
  }),
  'POST /admin/evaluate': of('adapters', {
    id: 'evaluateFile',
    summary: 'Scores a file that was sent on prompts with known answers.',
    body: 'EvaluateFileRequest',
    answers: { 200: { description: 'A score for each row, in order.', schema: 'EvaluateAnswer' } },
  }),
  'GET /admin/tenants/limits': of('keys', {
    id: 'listTenantLimits',
    summary: 'What all keys of a tenant may use together; a tenant sees its own.',
    query: TenantLimitsQuery,
    answers: { 200: { description: 'A page of tenants that have limits.', schema: 'TenantLimitsList' } },
  }),
  'POST /admin/tenants/limits': of('keys', {
    id: 'changeTenantLimits',
    summary: 'Limits all keys of a tenant together; what is not given stays.',
    body: 'TenantLimitsRequest',
    answers: { 200: { description: 'The limits as they are now.', schema: 'TenantLimitsView' } },
  }),
  'POST /admin/limits/reset': of('keys', {
    id: 'resetLimits',
    summary: 'Forgets what a tenant, or a key, has used of its limits.',
    body: 'ResetLimitsRequest',
    answers: { 200: { description: 'Whose counter begins anew.', schema: 'ResetLimitsAnswer' } },
  }),
  'GET /admin/usage': of('operation', {
    id: 'readUsage',
    summary: 'Requests and tokens by key, tenant, name, version, day or hour; whole hours.',
    query: UsageQuery,
    answers: {
      200: { description: 'A row for each group; `truncated` when there are more.', schema: 'UsageReport' },
    },
  }),
  'GET /admin/origins': of('operation', {
    id: 'listOrigins',
    summary: 'The origins, and to the bootstrap key what they hold and how busy they are.',
    query: OriginsQuery,
    answers: { 200: { description: 'All of them, with `figures` where asked for.', schema: 'OriginList' } },
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
    answers: { 200: { description: 'What was mended; `cursor` goes on.', schema: 'RepairAnswer' } },
  }),
  'POST /admin/gc': of('operation', {
    id: 'collectGarbage',
    summary: 'Deletes a page of files that nothing needs. Bootstrap key only.',
    body: 'CollectGarbageRequest',
    answers: {
      200: { description: 'What became of each file; `cursor` goes on.', schema: 'CollectGarbageAnswer' },
    },
  }),
  'GET /admin/openapi.json': of('operation', {
    id: 'readOpenApi',
    summary: 'This document.',
    answers: { 200: { description: 'An OpenAPI 3.1 document.' } },
  }),
};
