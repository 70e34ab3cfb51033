import { Hono } from 'hono';
import { type PreferenceAnswer, PreferenceRequest } from '../../protocol/admin-api/improvements.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import type { KeyRecord } from '../access/ports.ts';
import type { Gates } from '../access/rate-limits.ts';
import { requireKey } from '../access/require-admin.ts';
import { fail, methodNotAllowed, type AppEnv, readInput } from '../http/request.ts';
import type { Index } from '../platform/ports.ts';
import { MAX_PREFERENCE_BODY_BYTES } from './limits.ts';
import type { Preferences } from './ports.ts';

const PATH = '/v1/preferences';

const NO_CONSENT: ApiError = {
  code: 'insufficient_scope',
  message:
    'Preferences need a key whose prompts are kept and may improve adapters. Ask an administrator: ' +
    'graft keys change <id> --keep-prompts 30d --improve.',
};

/**
 * `POST /v1/preferences`: which of two answers a user preferred. Requests are named, texts are not sent: nobody can
 * teach what the model never said. Whether they exist is looked at when rows are made, since they are written later.
 */
export function preferenceRoutes(deps: {
  keys: Index<KeyRecord>;
  gates: Pick<Gates, 'feedback'>;
  preferences: Pick<Preferences, 'add'>;
  /** Unix ms. */
  now: () => number;
}): Hono<AppEnv> {
  const { preferences, now } = deps;
  const routes = new Hono<AppEnv>();
  routes.post(PATH, requireKey(deps, deps.gates.feedback), async (context) => {
    const { tenant, keyId, keep_prompts: keeps, improve } = context.get('caller');
    if (keeps === undefined || improve !== true) return fail(NO_CONSENT);
    const input = await readInput(context.req.raw, PreferenceRequest, {
      maxBytes: MAX_PREFERENCE_BODY_BYTES,
    });
    if (!input.ok) return fail(input.error);
    const status = await preferences.add({ tenant, keyId, ...input.value, at: now() });
    if (status === 'refused') return fail(NO_CONSENT);
    return context.json({ object: 'graft.preference', status } satisfies PreferenceAnswer);
  });
  routes.all(PATH, methodNotAllowed('POST'));
  return routes;
}
