import { Hono } from 'hono';
import type { ImprovementRow, ImprovementRows } from '../../protocol/admin-api/improvements.ts';
import { KeptText } from '../../protocol/admin-api/prompts.ts';
import type { ApiError } from '../../protocol/api-error.ts';
import type { TrainingMethod } from '../../protocol/training.ts';
import { adapterNotFound } from '../errors.ts';
import type { StoredPair, PairTallies } from '../experiments/pairs/ports.ts';
import type { ExperimentLedger } from '../experiments/ports.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, type AppEnv } from '../http/request.ts';
import type { PromptSealer } from '../prompts/keep-prompts.ts';
import { ownName } from '../registry/own-name.ts';
import type { Registry } from '../registry/ports.ts';
import { EXPERIMENTS_READ, MAX_ROWS_CHARACTERS, READ_AT_ONCE } from './limits.ts';
import { checked, type Decision, decisionOf, LeftOutCounts, limitUsers, rowOf } from './make-rows.ts';
import { placeKey, type Preferences, type PreferredRequest } from './ports.ts';

export interface ImprovementDeps {
  registry: Registry;
  preferences: Preferences;
  promptSealer: PromptSealer;
  experimentLedger: Pick<ExperimentLedger, 'list'>;
  pairTallies: Pick<PairTallies, 'kept'>;
  /** Unix ms. */
  now: () => number;
}

const NO_RIGHT: ApiError = {
  code: 'insufficient_scope',
  message:
    'This key may not read prompts and answers, of which rows are made. Ask the operator to give an admin key ' +
    'that right: graft keys change <id> --prompts.',
};

/** Rows for a name's next version, from the requests of the tenant that owns it. */
export function adminImprovementRoutes(deps: ImprovementDeps): Hono<AppEnv> {
  const { preferences, now } = deps;
  const routes = new Hono<AppEnv>();
  adminRoute(routes, 'POST /admin/improvements', async ({ context, caller, request }) => {
    if (caller.prompts !== true) return fail(NO_RIGHT);
    const { name, method } = request;
    const own = await ownName(deps, { name, caller });
    if (!own.ok) return fail(own.error);
    const { tenant, keyId: actor } = caller;
    // Not even the bootstrap key learns from another tenant's requests.
    if (own.value.owner !== tenant || own.value.alias !== null) return fail(adapterNotFound(name));
    // Every reading leaves a trace: if it cannot be recorded, nothing is returned.
    await preferences.noteReading({ tenant, name, actor, at: now() });
    return context.json({ name, method, ...(await rowsOf(deps, { tenant, name, method })) });
  });
  return routes;
}

async function rowsOf(
  deps: ImprovementDeps,
  of: { tenant: string; name: string; method: TrainingMethod },
): Promise<Pick<ImprovementRows, 'rows' | 'users' | 'left_out'>> {
  const leftOut = new LeftOutCounts();
  const decisions = [...(await usersDecisions(deps, of, leftOut)), ...(await judges(deps, of, leftOut))];
  decisions.sort((a, b) => a.at - b.at);
  const { taken, day, share } = limitUsers(decisions);
  leftOut.add('day', day);
  leftOut.add('share', share);
  const rows: ImprovementRow[] = [];
  const users = new Set<string>();
  let room = MAX_ROWS_CHARACTERS;
  for (const decision of taken.reverse()) {
    const row = rowOf(decision, of.method);
    room -= JSON.stringify(row).length;
    if (room < 0) {
      leftOut.add('size');
      continue;
    }
    rows.push(row);
    users.add(decision.user);
  }
  return { rows: rows.reverse(), users: users.size, left_out: leftOut.list() };
}

async function usersDecisions(
  deps: ImprovementDeps,
  { tenant, name }: { tenant: string; name: string },
  leftOut: LeftOutCounts,
): Promise<Decision[]> {
  const { preferences, promptSealer, now } = deps;
  const all = await preferences.list({ tenant, now: now() });
  const known = new Set(all.map(({ chosen, rejected }) => `${chosen} ${rejected}`));
  const whole: { at: number; chosen: PreferredRequest; rejected: PreferredRequest }[] = [];
  for (const { at, chosen, rejected, ...sides } of all) {
    const [a, b] = [sides.chosenRequest, sides.rejectedRequest];
    if ((a ?? b)?.name !== name) continue;
    if (a === null || b === null) leftOut.add('gone');
    else if (b.name !== name) leftOut.add('different');
    else if (known.has(`${rejected} ${chosen}`)) leftOut.add('contradicted');
    else whole.push({ at, chosen: a, rejected: b });
  }
  const keyIds = [...new Set(whole.flatMap(({ chosen, rejected }) => [chosen.keyId, rejected.keyId]))];
  const consenting = await preferences.consenting({ tenant, keyIds });
  const allowed = whole.filter(({ chosen, rejected }) => {
    const may = [chosen, rejected].every(({ improve, keyId }) => improve && consenting.has(keyId));
    if (!may) leftOut.add('consent');
    return may;
  });
  const decisions: Decision[] = [];
  for (let from = 0; from < allowed.length; from += READ_AT_ONCE) {
    const some = allowed.slice(from, from + READ_AT_ONCE);
    const requests = some.flatMap(({ chosen, rejected }) => [chosen, rejected]);
    const sealed = await preferences.texts({ tenant, requests, now: now() });
    const open = async ({ at, id }: PreferredRequest): Promise<KeptText | null> => {
      const text = await promptSealer.open({ tenant, at, id }, sealed.get(placeKey({ at, id })) ?? '');
      return text === null ? null : KeptText.parse(JSON.parse(text));
    };
    for (const { at, ...sides } of some) {
      const [chosen, rejected] = [await open(sides.chosen), await open(sides.rejected)];
      const { user } = sides.chosen;
      const decision =
        chosen === null || rejected === null ? 'gone' : decisionOf({ chosen, rejected }, { at, user });
      if (typeof decision === 'string') leftOut.add(decision);
      else decisions.push(decision);
    }
  }
  return decisions;
}

/** Kept pairs of the name's experiments. */
async function judges(
  deps: ImprovementDeps,
  { tenant, name }: { tenant: string; name: string },
  leftOut: LeftOutCounts,
): Promise<Decision[]> {
  const { experimentLedger, pairTallies, preferences, now } = deps;
  const page = await experimentLedger.list({ owner: tenant, name, cursor: null, limit: EXPERIMENTS_READ });
  const pairs: StoredPair[] = [];
  for (const { id, document } of page.items) {
    const keep = document.judge?.keep_pairs ?? 0;
    if (keep > 0) pairs.push(...(await pairTallies.kept(id, { at: now(), keep })));
  }
  const keyIds = [...new Set(pairs.flatMap(({ learner }) => (learner === null ? [] : [learner.key])))];
  const consenting = await preferences.consenting({ tenant, keyIds });
  const decisions: Decision[] = [];
  for (const { at, prompt, control, treatment, result, cut, learner } of pairs) {
    const [chosen, rejected] = result === 'win' ? [treatment, control] : [control, treatment];
    const decision =
      learner === null || !consenting.has(learner.key)
        ? 'consent'
        : result === 'tie'
          ? 'tie'
          : cut
            ? 'cut'
            : checked({ at, by: 'judge', user: learner.user, conversation: prompt, chosen, rejected });
    if (typeof decision === 'string') leftOut.add(decision);
    else decisions.push(decision);
  }
  return decisions;
}
