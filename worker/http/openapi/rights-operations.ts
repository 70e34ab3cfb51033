import { GrantQuery, GrantRequest } from '../../access/grants-routes.ts';
import { RefusalInput } from '../../access/refusals-routes.ts';
import { ReleaseQuery, RoomQuery } from '../../registry/rooms-routes.ts';
import { RevokeQuery } from '../../access/revoke-key.ts';
import { adminOperation as of, type Operations } from './operation.ts';

/** What says who may use and publish what: keys, grants, rooms. */
export const RIGHTS_OPERATIONS: Operations = {
  'GET /admin/grants': of('grants', {
    id: 'listGrants',
    summary: 'What the tenant gave, or was given.',
    query: GrantQuery,
    answers: { 200: { description: 'A page of grants.', schema: 'GrantList' } },
  }),
  'POST /admin/grants': of('grants', {
    id: 'grantAdapters',
    summary: 'Lets another tenant, or everybody (`*`), use a name or a room.',
    body: 'GrantRequest',
    answers: {
      200: { description: 'The grant, which was given before.', schema: 'GrantView' },
      201: { description: 'The new grant.', schema: 'GrantView' },
    },
  }),
  'DELETE /admin/grants': of('grants', {
    id: 'revokeGrant',
    summary: 'Takes a grant back.',
    query: GrantRequest,
    answers: { 204: { description: 'It is gone.', body: 'none' } },
  }),
  'GET /admin/rooms': of('rooms', {
    id: 'listRooms',
    summary: 'Rooms that were reserved for the tenant; the bootstrap key sees all.',
    query: RoomQuery,
    answers: { 200: { description: "A page of them, in the names' order.", schema: 'RoomList' } },
  }),
  'POST /admin/rooms': of('rooms', {
    id: 'reserveRoom',
    summary: 'Reserves a name and all below it that does not exist yet for a tenant. Bootstrap key only.',
    body: 'ReserveRequest',
    answers: {
      200: {
        description: 'The room, which was reserved so already, or as a dry run.',
        schema: 'ReservedRoom',
      },
      201: { description: 'The room, and whose it was.', schema: 'ReservedRoom' },
    },
  }),
  'DELETE /admin/rooms': of('rooms', {
    id: 'releaseRoom',
    summary: 'Ends a reservation; names that exist stay their owners’. Bootstrap key only.',
    query: ReleaseQuery,
    answers: { 204: { description: 'It is gone.', body: 'none' } },
  }),
  'GET /admin/grants/refuse': of('grants', {
    id: 'listRefusals',
    summary: 'Tenants whose grants this tenant refuses.',
    answers: { 200: { description: 'All of them, by tenant.', schema: 'RefusalList' } },
  }),
  'POST /admin/grants/refuse': of('grants', {
    id: 'refuseGrants',
    summary: "Refuses another tenant's grants, those to everybody too; they open nothing from then on.",
    body: 'RefusalInput',
    answers: {
      200: { description: 'The refusal, which was there before.', schema: 'RefusalView' },
      201: { description: 'The new refusal.', schema: 'RefusalView' },
    },
  }),
  'DELETE /admin/grants/refuse': of('grants', {
    id: 'acceptGrants',
    summary: "Accepts another tenant's grants again.",
    query: RefusalInput,
    answers: { 204: { description: 'They open what they are for again.', body: 'none' } },
  }),
  'POST /admin/keys': of('keys', {
    id: 'createKey',
    summary: 'Makes a key, or registers one by its hash.',
    body: 'KeyRequest',
    answers: {
      200: { description: 'The key whose hash it is, which was there already.', schema: 'KeyView' },
      201: {
        description:
          'The new key; `key`, the secret itself, is shown this once, and not where a hash was sent.',
        schema: 'NewKey',
      },
    },
  }),
  'POST /admin/keys/rotate': of('keys', {
    id: 'rotateKey',
    summary: 'Makes a key in the place of another, which ends after `grace` ms.',
    body: 'RotateKeyRequest',
    answers: {
      201: {
        description: 'The new key; `key`, the secret itself, is shown this once.',
        schema: 'RotatedKey',
      },
    },
  }),
  'POST /admin/keys/change': of('keys', {
    id: 'changeKey',
    summary: 'Changes what a key may do; what is not given stays.',
    body: 'ChangeKeyRequest',
    answers: { 200: { description: 'The key as it is now.', schema: 'KeyView' } },
  }),
  'GET /admin/keys': of('keys', {
    id: 'listKeys',
    summary: "The tenant's keys.",
    answers: { 200: { description: 'All of them, the newest first.', schema: 'KeyList' } },
  }),
  'DELETE /admin/keys/:id': of('keys', {
    id: 'revokeKey',
    summary: 'Revokes a key, and those that it was rotated into.',
    query: RevokeQuery,
    answers: {
      200: { description: 'What was revoked, with `report=true`.', schema: 'RevocationView' },
      204: { description: 'They are revoked.', body: 'none' },
    },
  }),
};
