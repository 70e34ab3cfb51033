/** What D1 has committed, with its past: against this answers are checked. */
import { LOCATION_CACHE_MS } from '../../worker/limits.ts';
import { ERASE_STEPS } from '../../protocol/admin-api/erasures.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import type { World } from './world/world.ts';

/**
 * How long something that was changed may still be seen elsewhere, ms: KV's staleness of up to a minute, which is twice
 * its cache's time, the location's cache, and the memory of an isolate.
 */
export const STALE_MS = 65_000 + LOCATION_CACHE_MS;

export interface NameState {
  owner: string;
  version: number | null;
  alias: string | null;
  removed: boolean;
}

export interface VersionRow {
  name: string;
  version: number;
  owner: string;
  chain: readonly (ChainEntry & { name: string; owner: string })[];
}

interface Period<T> {
  from: number;
  /** Infinity = still. */
  until: number;
  value: T;
  /** The value, to compare. */
  json: string;
}

/** An experiment that a client may be assigned to. */
interface TrialState {
  name: string;
  isLive: boolean;
  /** Variant -> `name@version`. */
  variants: Record<string, string>;
}

interface Grant {
  scope: string;
  tenant: string;
  owner: string | null;
}

/** A value of each key, from when to when. */
class Past<T> {
  readonly #periods = new Map<string, Period<T>[]>();

  set(now: number, current: ReadonlyMap<string, T>): void {
    for (const [key, periods] of this.#periods) {
      const last = periods.at(-1) as Period<T>;
      if (last.until !== Infinity) continue;
      const value = current.get(key);
      if (value === undefined || JSON.stringify(value) !== last.json) last.until = now;
    }
    for (const [key, value] of current) {
      const periods = this.#periods.get(key) ?? [];
      if (periods.at(-1)?.until === Infinity) continue;
      periods.push({ from: now, until: Infinity, value, json: JSON.stringify(value) });
      this.#periods.set(key, periods);
    }
  }

  /** Values that were there at some moment of the time. */
  during(key: string, from: number, until: number): T[] {
    return (this.#periods.get(key) ?? [])
      .filter((one) => one.from <= until && one.until >= from)
      .map(({ value }) => value);
  }

  /** Whether it was absent at some moment of the time. */
  absentDuring(key: string, from: number, until: number): boolean {
    let covered = from;
    for (const { from: begin, until: end } of this.#periods.get(key) ?? []) {
      if (begin > covered) break;
      covered = Math.max(covered, end);
    }
    return covered < until;
  }

  /** All values that were there at some moment of the time. */
  allDuring(from: number, until: number): T[] {
    return [...this.#periods.keys()].flatMap((key) => this.during(key, from, until));
  }

  now(key: string): T | undefined {
    const last = this.#periods.get(key)?.at(-1);
    return last?.until === Infinity ? last.value : undefined;
  }

  /** When it was last there; Infinity = it is now. */
  lastAt(key: string): number {
    return this.#periods.get(key)?.at(-1)?.until ?? -Infinity;
  }

  /** When it was last so; Infinity = it is now, -Infinity = it never was. */
  lastWas(key: string, so: (value: T) => boolean): number {
    return Math.max(
      -Infinity,
      ...(this.#periods.get(key) ?? []).filter(({ value }) => so(value)).map(({ until }) => until),
    );
  }

  /** Whether it ever was so. */
  everWas(key: string, so: (value: T) => boolean): boolean {
    return (this.#periods.get(key) ?? []).some(({ value }) => so(value));
  }

  /** All that have been there. */
  ever(): string[] {
    return [...this.#periods.keys()];
  }

  keys(): string[] {
    const keys: string[] = [];
    for (const [key, periods] of this.#periods) if (periods.at(-1)?.until === Infinity) keys.push(key);
    return keys;
  }
}

/** Tables that are read here. None has a trigger, and no other's rows take theirs with them. */
const READ = /\b(names|versions|history|grants|experiments|erasures|keys)\b/;
const changing = new Map<string, boolean>();
/** Whether the statement may change what is read here. */
function mayChange(sql: string): boolean {
  let known = changing.get(sql);
  if (known === undefined) changing.set(sql, (known = !/^\s*SELECT\b/i.test(sql) && READ.test(sql)));
  return known;
}

export class Truth {
  readonly names = new Past<NameState>();
  readonly grants = new Past<Grant>();
  /** By id. */
  readonly experiments = new Past<TrialState>();
  /** By id. */
  readonly keys = new Past<{ tenant: string; revoked: boolean; hash: string; scopes: string[] }>();
  /** Owners of what is being erased, by id: until all of it is gone, and only what comes late is looked for. */
  readonly #erasures = new Past<string>();
  /** The same, until they have looked once more for what was late. */
  readonly #searches = new Past<string>();
  /** `name@version` -> the row, also of those that are gone. */
  readonly versions = new Map<string, VersionRow>();
  readonly #everAs = new Map<string, VersionRow[]>();
  readonly #versionsOf = new Map<string, number[]>();
  readonly #chains = new Map<string, VersionRow['chain']>();
  /** Digests of versions that are no more, and when the last one went. */
  readonly #vanished = new Map<string, number>();
  /** `name@version` -> when KV was last told that it is live. */
  readonly #servedAt = new Map<string, number>();
  /** Digests of versions that D1 has. */
  #live = new Set<string>();
  /** First versions, other than 1, of names that D1 did not have before: an erased name begins at 1 again. */
  readonly returned: string[] = [];
  /** Since when a version may not be served. */
  readonly retired = new Map<string, number>();
  readonly #db: SqlDatabase;
  readonly #world: World;
  #seen = '';
  /** Rows that had been changed, of all tables, when it last looked. */
  #changes = -1;
  #looking = false;

  constructor(world: World) {
    this.#world = world;
    this.#db = world.database.truth;
    world.database.onCommit = (texts) => {
      if (texts.some(mayChange)) void this.#look();
    };
    world.kv.onWrite = (key, bytes) => this.#served(key, bytes);
  }

  #served(key: string, bytes: Uint8Array | null): void {
    if (!key.startsWith('name:') || bytes === null) return;
    const version = /"version":(\d+)/.exec(new TextDecoder().decode(bytes))?.[1];
    if (version !== undefined)
      this.#servedAt.set(`${key.slice('name:'.length)}@${version}`, this.#world.time.now);
  }

  /** Whether KV was told since then that the version is live. */
  servedSince(name: string, version: number, from: number): boolean {
    return (this.#servedAt.get(`${name}@${version}`) ?? -Infinity) >= from;
  }

  /** Reads what has changed. SQLite answers within the event. */
  async #look(): Promise<void> {
    if (this.#looking) return;
    this.#looking = true;
    const [sum] = await this.#rows<{ changes: number }>('SELECT total_changes() AS changes');
    if (sum?.changes !== this.#changes) {
      this.#changes = sum?.changes ?? -1;
      await this.#lookCloser();
    }
    this.#looking = false;
  }

  async #lookCloser(): Promise<void> {
    const [mark] = await this.#rows<{ mark: string }>(
      `SELECT (SELECT COUNT(*) || ' ' || COALESCE(MAX(id), 0) FROM history) || ' ' || (SELECT COUNT(*) || ' ' || COALESCE(SUM(created_at), 0) FROM grants)
        || ' ' || (SELECT COUNT(*) || ' ' || COALESCE(SUM(version), 0) FROM experiments)
        || ' ' || (SELECT COALESCE(GROUP_CONCAT(id || step), '') FROM erasures)
        || ' ' || (SELECT COUNT(*) || ' ' || COUNT(revoked_at) FROM keys) || ' ' || (SELECT COUNT(*) || ' ' || COUNT(retired_at) || ' ' || COUNT(withdrawn_at) || ' ' || COUNT(removed_at) FROM versions) AS mark`,
    );
    if (mark !== undefined && mark.mark !== this.#seen) {
      this.#seen = mark.mark;
      await this.#read();
    }
  }

  async #rows<T>(sql: string): Promise<T[]> {
    return (await this.#db.prepare(sql).all<T>()).results;
  }

  async #read(): Promise<void> {
    const { now } = this.#world.time;
    const names = await this.#rows<{
      name: string;
      owner: string;
      version: number | null;
      alias: string | null;
      removed_at: number | null;
    }>('SELECT name, owner, version, alias, removed_at FROM names');
    const born = names.map(({ name }) => name).filter((name) => this.names.now(name) === undefined);
    this.names.set(
      now,
      new Map(
        names.map(({ name, owner, version, alias, removed_at: removed }) => [
          name,
          { owner, version, alias, removed: removed !== null },
        ]),
      ),
    );
    const versions = await this.#rows<{
      name: string;
      version: number;
      owner: string;
      chain: string;
      retired_at: number | null;
      withdrawn_at: number | null;
      removed_at: number | null;
    }>('SELECT name, version, owner, chain, retired_at, withdrawn_at, removed_at FROM versions');
    for (const name of born) {
      const first = Math.min(...versions.filter((row) => row.name === name).map(({ version }) => version));
      if (first > 1 && first < Infinity) this.returned.push(`${name}@${first}`);
    }
    for (const row of versions) {
      const id = `${row.name}@${row.version}`;
      if (!this.versions.has(id)) this.#versionsOf.set(row.name, [...this.versionsOf(row.name), row.version]);
      const chain = this.#chainOf(row.chain);
      const rows = this.#everAs.get(id) ?? [];
      if (!rows.some((one) => one.chain === chain)) this.#everAs.set(id, [...rows, { ...row, chain }]);
      this.versions.set(id, { ...row, chain });
      if (row.retired_at === null && row.withdrawn_at === null && row.removed_at === null)
        this.retired.delete(id);
      else if (!this.retired.has(id)) this.retired.set(id, now);
    }
    // Erased.
    const there = new Set(versions.map(({ name, version }) => `${name}@${version}`));
    for (const id of this.versions.keys())
      if (!there.has(id) && !this.retired.has(id)) this.retired.set(id, now);
    const live = new Set(versions.flatMap(({ chain }) => this.#chainOf(chain).map(({ digest }) => digest)));
    for (const digest of this.#live) if (!live.has(digest)) this.#vanished.set(digest, now);
    this.#live = live;
    const grants = await this.#rows<{ scope: string; tenant: string; owner: string | null }>(
      'SELECT * FROM grants',
    );
    this.grants.set(
      now,
      new Map(grants.map((grant) => [`${grant.scope} ${grant.tenant} ${grant.owner}`, grant])),
    );
    const experiments = await this.#rows<{ id: string; name: string; status: string; document: string }>(
      'SELECT id, name, status, document FROM experiments',
    );
    this.experiments.set(
      now,
      new Map(
        experiments.map(({ id, name, status, document }) => {
          const { variants } = JSON.parse(document) as { variants: { key: string; adapter: string }[] };
          const isLive = status === 'running' || status === 'ramping';
          return [
            id,
            {
              name,
              isLive,
              variants: Object.fromEntries(variants.map(({ key, adapter }) => [key, adapter])),
            },
          ];
        }),
      ),
    );
    const erasures = await this.#rows<{ id: number; owner: string; step: string }>(
      'SELECT id, owner, step FROM erasures',
    );
    const erasing = erasures.filter(({ step }) => (ERASE_STEPS as readonly string[]).includes(step));
    this.#erasures.set(now, new Map(erasing.map(({ id, owner }) => [String(id), owner])));
    const searching = erasures.filter(({ step }) => step !== 'planned');
    this.#searches.set(now, new Map(searching.map(({ id, owner }) => [String(id), owner])));
    const keys = await this.#rows<{
      id: string;
      tenant: string;
      revoked_at: number | null;
      hash: string;
      rights: string;
    }>('SELECT id, tenant, revoked_at, hash, rights FROM keys');
    this.keys.set(
      now,
      new Map(
        keys.map(({ id, tenant, revoked_at: revoked, hash, rights }) => [
          id,
          {
            tenant,
            revoked: revoked !== null,
            hash,
            scopes: (JSON.parse(rights) as { scopes?: string[] }).scopes ?? [],
          },
        ]),
      ),
    );
  }

  /** The same object for the same text. */
  #chainOf(text: string): VersionRow['chain'] {
    let chain = this.#chains.get(text);
    if (chain === undefined) this.#chains.set(text, (chain = JSON.parse(text) as VersionRow['chain']));
    return chain;
  }

  /** Digests of versions that D1 has no more, and since when. */
  vanished(): Map<string, number> {
    const found = new Map<string, number>();
    for (const [digest, at] of this.#vanished) if (!this.#live.has(digest)) found.set(digest, at);
    return found;
  }

  /** All that `name@version` has been: after an erasure a name begins at 1 again. */
  everAs(id: string): readonly VersionRow[] {
    return this.#everAs.get(id) ?? [];
  }

  /** Chains that `name@version` has had; `base` has none below it. */
  chainsAs(id: string): readonly VersionRow['chain'][] {
    return id === 'base' ? [[]] : this.everAs(id).map(({ chain }) => chain);
  }

  /** Of all versions that have been. */
  allChains(): VersionRow['chain'][] {
    return [...this.#everAs.values()].flatMap((rows) => rows.map(({ chain }) => chain));
  }

  /** Versions of a name that D1 has or had, in their order. */
  versionsOf(name: string): number[] {
    return this.#versionsOf.get(name) ?? [];
  }

  /** Whether something of the tenant was being erased at some moment of the time: also what it makes meanwhile goes. */
  erasedDuring(tenant: string, from: number, until = Infinity): boolean {
    return this.#erasures.allDuring(from, until).includes(tenant);
  }

  /** Whether an erasure of the tenant may have deleted what the key left since then: it looks for that of ended keys alone. */
  erasedWithKey({ id, tenant }: { id: string; tenant: string }, from: number): boolean {
    const ended = this.keys.lastWas(id, ({ revoked }) => !revoked);
    return this.#searches.allDuring(Math.max(from, ended), Infinity).includes(tenant);
  }

  /** Whether the tenant might use what the owner has under this name, at some moment of the time. */
  mightUse(tenant: string, member: { name: string; owner: string }, from: number, until: number): boolean {
    if (member.owner === tenant) return true;
    // A file that is dropped below the tenant's path when no name is above it belongs to the operator, whose keys for the
    // tenant cover that path whoever owns what is there.
    if (member.owner === 'default' && covers(`${tenant}/**`, member.name)) return true;
    return this.grants
      .allDuring(from, until)
      .some(
        ({ scope, tenant: holder, owner }) =>
          (holder === tenant || holder === '*') &&
          (owner === null || owner === '*' || owner === member.owner) &&
          covers(scope, member.name),
      );
  }
}

/** `**`, `a/**` or a name. */
function covers(scope: string, name: string): boolean {
  if (scope === '**') return true;
  if (!scope.endsWith('/**')) return scope === name;
  const above = scope.slice(0, -3);
  return name === above || name.startsWith(`${above}/`);
}
