/**
 * What was acknowledged and nobody has asked to change since is still so at rest: grants, their refusals, removals, kept
 * evaluations.
 */
import type { Answered, Ask } from '../client.ts';
import type { Truth } from '../truth.ts';
import { examDigest, type ExamRow } from '../exams.ts';
import type { Fail } from './fail.ts';
import type { World } from '../world/world.ts';

/** After a lost answer its request may still be worked on so long, ms. */
const LOST_MS = 120_000;

/** A row of D1, and whether it must be there. */
interface Promised {
  /** When it was asked for, ms. */
  askedAt: number;
  sql: string;
  values: readonly string[];
  isThere: boolean;
}

/** Requests that may change one thing. */
interface Changes {
  begun: number;
  /** Without an answer yet. */
  open: number;
  /** A lost one may be worked on until then. */
  unsureUntil: number;
}

const GRANT = 'SELECT 1 FROM grants WHERE tenant = ? AND scope = ? AND owner = ?';
const REFUSAL = 'SELECT 1 FROM grant_refusals WHERE tenant = ? AND owner = ?';
const EVALUATION = 'SELECT 1 FROM evaluations WHERE name = ? AND label = ? AND tenant = ?';
/** Or a job that was begun before has staged a version since. */
const REMOVED = `SELECT 1 FROM names n WHERE name = ?1 AND (removed_at IS NOT NULL OR EXISTS (
  SELECT 1 FROM history h WHERE h.name = n.name AND h.action = 'stage' AND h.why LIKE 'fine-tuning job %'
    AND h.sequence > (SELECT MAX(r.sequence) FROM history r WHERE r.name = n.name AND r.action = 'remove')))`;

/** What it is checked against. */
interface Checked {
  world: World;
  truth: Truth;
  tenants: readonly { id: string }[];
}

export class Acknowledged {
  readonly #promised = new Map<string, Promised>();
  readonly #changes = new Map<string, Changes>();
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** A request of the tenant has begun. @returns to be called with its answer. */
  begin(tenant: string, given: Ask): (answered: Answered) => void {
    const [path = ''] = given.path.split('?');
    const about = aboutOf(tenant, given, this.#now());
    const changesName = given.body !== undefined && (path === '/admin/versions' || NAMES.has(path));
    // With all that was removed along with it.
    if (path === '/admin/restore')
      for (const key of this.#promised.keys()) if (key.startsWith('removed ')) this.#promised.delete(key);
    if (about === null && !changesName) return () => undefined;
    if (changesName) this.#changed(tenant, (given.body as { name?: string } | undefined)?.name);
    if (about !== null) this.#promised.delete(about.key);
    // Any change of a tenant's names may be one of this name: it may stand for others, or lie above it.
    const subject = changesName ? `names of ${tenant}` : (about?.key ?? '');
    const changes = this.#changesOf(subject);
    const begun = (changes.begun += 1);
    const wasOpen = changes.open;
    changes.open += 1;
    return (answered) => {
      changes.open -= 1;
      const now = this.#now();
      if (answered.kind === 'lost') changes.unsureUntil = Math.max(changes.unsureUntil, now + LOST_MS);
      const isAlone = wasOpen === 0 && changes.begun === begun && now > changes.unsureUntil;
      if (about !== null && answered.kind === 'answer' && answered.status < 300 && isAlone)
        this.#promised.set(about.key, about.promised);
    };
  }

  #changesOf(subject: string): Changes {
    const changes = this.#changes.get(subject) ?? { begun: 0, open: 0, unsureUntil: 0 };
    this.#changes.set(subject, changes);
    return changes;
  }

  /** A file lies in KV's inbox, and may be taken within this time. */
  dropped(tenant: string, name: string, ms: number): void {
    this.#changed(tenant, name);
    const changes = this.#changesOf(`names of ${tenant}`);
    changes.unsureUntil = Math.max(changes.unsureUntil, this.#now() + ms);
  }

  /** Somebody changes the name, or those below it. @param name absent = any. */
  #changed(tenant: string, name = tenant): void {
    for (const key of this.#promised.keys())
      if (key === `removed ${name}` || key.startsWith(`removed ${name}/`)) this.#promised.delete(key);
  }

  async check({ world, truth, tenants }: Checked, fail: Fail): Promise<void> {
    // What arrives twice may be done again behind what came between.
    if (world.faults.bitten.has('net-twice')) return;
    for (const [key, { askedAt, sql, values, isThere }] of this.#promised) {
      // A grant goes with either tenant; a removed name also with another's that it stands on.
      const isErased = tenants.some(
        ({ id }) => (key.includes(id) || sql === REMOVED) && truth.erasedDuring(id, askedAt),
      );
      if (isErased) continue;
      const { results } = await world.database.truth
        .prepare(sql)
        .bind(...values)
        .all();
      if (results.length > 0 !== isThere)
        fail('1 nothing acknowledged is lost', `${key}: D1 has ${results.length} rows at rest`);
    }
  }
}

/** What changes a name, beside its versions. */
const NAMES = new Set([
  '/admin/promote',
  '/admin/rollback',
  '/admin/retire',
  '/admin/remove',
  '/admin/restore',
  '/admin/alias',
]);

function aboutOf(tenant: string, given: Ask, askedAt: number): { key: string; promised: Promised } | null {
  const [path = '', query] = given.path.split('?');
  const removes = given.method === 'DELETE';
  const body = (removes ? Object.fromEntries(new URLSearchParams(query)) : (given.body ?? {})) as Record<
    string,
    string
  >;
  if (given.method === 'GET' || (!removes && given.body === undefined)) return null;
  const { scope = '', tenant: to = '', from = '', name = '' } = body;
  if (path === '/admin/grants')
    return {
      key: `grant of ${tenant} to ${to}: ${scope}`,
      promised: { askedAt, sql: GRANT, values: [to, scope, tenant], isThere: !removes },
    };
  if (path === '/admin/grants/refuse')
    return {
      key: `refusal of ${from} by ${tenant}`,
      promised: { askedAt, sql: REFUSAL, values: [tenant, from], isThere: !removes },
    };
  if (path === '/admin/evaluations') {
    const values = [name, body['label'] ?? '', tenant];
    const rows = (body as { rows?: ExamRow[] }).rows ?? [];
    return {
      key: `evaluation of ${tenant}: ${name} ${body['label']}`,
      promised: removes
        ? { askedAt, sql: EVALUATION, values, isThere: false }
        : {
            ...{ askedAt, sql: `${EVALUATION} AND sha256 = ?`, values: [...values, examDigest(rows)] },
            isThere: true,
          },
    };
  }
  if (path === '/admin/remove')
    return { key: `removed ${name}`, promised: { askedAt, sql: REMOVED, values: [name], isThere: true } };
  return null;
}
