import { Hono } from 'hono';
import { z } from 'zod';
import {
  AdapterName,
  MAX_PINNED_NAMES,
  type ApiError,
  type PinList,
  type PinView,
} from '../../protocol/index.ts';
import { fail, methodNotAllowed, requestLife, type AppContext, type AppEnv } from '../http/request-scope.ts';
import { modelNotFound } from '../completions/resolve-name.ts';
import type { PinLedger, PinReport, PinSync } from './ports.ts';
import type { Registry } from '../registry/ports.ts';
import { parseInput, readInput } from '../http/parse-input.ts';

export const PinInput = z.strictObject({ name: AdapterName });

const pinJson = ({ name, at, actor, live, origins }: PinReport): PinView => ({
  name,
  pinned_at: at,
  pinned_by: actor,
  live: live === null ? null : `${live.name}@${live.version}`,
  origins,
});

const NOT_YOURS: ApiError = {
  code: 'insufficient_scope',
  message: 'Memory of the origins is shared by all tenants: only the bootstrap key pins.',
};

/**
 * `POST /admin/pins` {@link PinInput} and `DELETE /admin/pins?name=` -> {@link PinList}: every pinned name, after the
 * origins were asked; `GET /admin/pins` asks them, too. 404 for a name that does not exist or is not pinned, 409 when
 * there are too many.
 */
export function adminPinRoutes(deps: {
  pins: PinLedger;
  pinSync: PinSync;
  registry: Pick<Registry, 'name'>;
  now: () => number;
}): Hono<AppEnv> {
  const { pins, pinSync, registry, now } = deps;
  const routes = new Hono<AppEnv>();
  const pinList = async (context: AppContext): Promise<PinList> => ({
    pins: (await pinSync.sync(requestLife(context))).map(pinJson),
  });
  routes.use('/admin/pins', (context, next) =>
    context.get('admin').root ? next() : Promise.resolve(fail(NOT_YOURS)),
  );

  routes.get('/admin/pins', async (context) => context.json(await pinList(context)));

  routes.post('/admin/pins', async (context) => {
    const input = await readInput(context.req.raw, PinInput);
    if (!input.ok) return fail(input.error);
    const { name } = input.value;
    if ((await registry.name(name)) === null) return fail(modelNotFound(name, []));
    const added = await pins.add({ name, at: now(), actor: context.get('admin').keyId }, MAX_PINNED_NAMES);
    if (!added)
      return fail({
        code: 'version_conflict',
        message: `${MAX_PINNED_NAMES} names are pinned, which is the most; unpin one first.`,
      });
    return context.json(await pinList(context));
  });

  routes.delete('/admin/pins', async (context) => {
    const input = parseInput(PinInput, context.req.query());
    if (!input.ok) return fail(input.error);
    if (!(await pins.remove(input.value.name)))
      return fail({ code: 'not_found', message: `'${input.value.name}' is not pinned.` });
    return context.json(await pinList(context));
  });
  routes.all('/admin/pins', methodNotAllowed('GET, POST, DELETE'));
  return routes;
}
