/** Names, keys and grants: changed all the time, and what was acknowledged of it, to be compared in the end. */
import { lookUpVersions } from '../../cli/admin/admin-client.ts';
import { type ApiClient, callOperation, callPages, createApiClient } from '../../cli/api-client.ts';
import { CliError, EXIT } from '../../cli/cli-error.ts';
import { createOutput, type Output } from '../../cli/output.ts';
import { publishAdapter } from '../../cli/publish/publish-adapter.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import { NewKey } from '../../protocol/admin-api/keys.ts';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { picked } from './blows.ts';
import { type Files, ROOT_FILE } from './clients.ts';
import type { Report } from './report.ts';
import { type BreachKind, Timeline } from './truth.ts';

export interface Version {
  /** Name of the folder that was published. */
  readonly file: string;
  readonly digest: string;
  readonly there: Timeline<boolean>;
}

export interface Name {
  readonly name: string;
  readonly owner: Tenant;
  /** Name of the adapter that its files were trained on. */
  readonly parent: string | null;
  readonly files: readonly string[];
  /** File of the live version. */
  readonly live: Timeline<string>;
  liveVersion: number;
  readonly versions: Map<number, Version>;
}

export interface Key {
  readonly tenant: Tenant;
  readonly label: string;
  readonly secret: string;
  id: string;
  readonly valid: Timeline<boolean>;
}

const TENANTS = ['alice', 'bob'] as const;
export type Tenant = (typeof TENANTS)[number];

/** Trained on by others, and never changed itself. */
const ROOT = 'alice/root';
/** Granted to bob, now and then. */
const SHARED = 'alice/shared';
/** How long a change is sent again before that is a breach. */
const INSIST_MS = 180_000;
const PAUSE_MS = 700;
const MOST_KEYS = 6;

/** Says nothing: failures are counted. */
const SILENT: Output = { ...createOutput({ json: true }), note: () => undefined, result: () => undefined };

type OnBreach = (kind: BreachKind, why: string, detail: Record<string, unknown>) => void;

export class World {
  readonly names: Name[] = [];
  readonly keys: Key[] = [];
  /** Of `alice/shared` to bob. */
  readonly granted = new Timeline(false);
  readonly #admins = new Map<Tenant, ApiClient>();
  readonly #operator: ApiClient;

  /** @param params.mayWait ends when the run is interrupted. */
  constructor(
    private readonly params: {
      url: string;
      adminKey: string;
      files: Files;
      report: Report;
      onBreach: OnBreach;
      mayWait: AbortSignal;
      /** Asks for what has just changed, while a memory may still hold what was before. */
      look: (key: Key, name: Name, version: number | null) => Promise<unknown>;
    },
  ) {
    this.#operator = createApiClient({ url: params.url, key: params.adminKey });
  }

  /** Tenants with a key each that stays, and a first version of each name. */
  async prepare(): Promise<void> {
    const { onBase, onRoot } = this.params.files;
    for (const tenant of TENANTS) {
      const body = { kind: 'admin' as const, tenant, label: `${tenant}'s` };
      const { key } = await callOperation(this.#operator, 'create an admin key', 'POST /admin/keys', {
        body,
        as: NewKey,
      });
      this.#admins.set(tenant, createApiClient({ url: this.params.url, key }));
      await this.createKey(tenant);
    }
    await this.#firstVersion({ name: ROOT, owner: 'alice', parent: null, files: [ROOT_FILE] });
    const body = { scope: ROOT, tenant: 'bob' };
    await callOperation(this.#admin('alice'), 'grant', 'POST /admin/grants', { body });
    for (const name of ['alice/a', 'alice/b', SHARED])
      await this.#firstVersion({ name, owner: 'alice', parent: null, files: onBase });
    await this.#firstVersion({ name: `${ROOT}/leaf`, owner: 'alice', parent: ROOT, files: onRoot });
    await this.#firstVersion({ name: 'bob/c', owner: 'bob', parent: null, files: onBase });
    await this.#firstVersion({ name: 'bob/over', owner: 'bob', parent: ROOT, files: onRoot });
  }

  async #firstVersion(made: Pick<Name, 'name' | 'owner' | 'parent' | 'files'>): Promise<void> {
    const name: Name = {
      ...made,
      live: new Timeline(made.files[0] as string),
      liveVersion: 0,
      versions: new Map(),
    };
    await this.#publish(name, made.files[0] as string, false);
    this.names.push(name);
  }

  /** Whether the key may use it between these moments; both where that changed. */
  usable(key: Key, name: Name, version: number | null, from: number, until: number): ReadonlySet<boolean> {
    const conditions: ReadonlySet<boolean>[] = [];
    if (key.tenant !== name.owner)
      conditions.push(
        name.name === SHARED ? this.granted.during(from, until) : new Set([name.name === ROOT]),
      );
    if (version !== null)
      conditions.push(name.versions.get(version)?.there.during(from, until) ?? new Set([true, false]));
    const usable = new Set<boolean>();
    if (conditions.every((condition) => condition.has(true))) usable.add(true);
    if (conditions.some((condition) => condition.has(false))) usable.add(false);
    return usable;
  }

  /** Does one change of the tenant's after the other. @param going false ends it after the current one. */
  async change(tenant: Tenant, random: () => number, going: () => boolean): Promise<void> {
    while (going()) {
      await this.#rest(300 + 1_500 * random());
      if (!going()) return;
      const name = picked(
        this.names.filter(({ owner, name: one }) => owner === tenant && one !== ROOT),
        random(),
      );
      const turn = random();
      if (turn < 0.24) await this.#publish(name, picked(name.files, random()), false);
      else if (turn < 0.34) await this.#publish(name, picked(name.files, random()), true);
      else if (turn < 0.5) await this.#goLive(name, 'promote', random());
      else if (turn < 0.6) await this.#goLive(name, 'rollback', random());
      else if (turn < 0.66) await this.#rollBackOnce(name);
      else if (turn < 0.73) await this.#remove(name, random());
      else if (turn < 0.79) await this.#restore(name, random());
      else if (turn < 0.86) await this.createKey(tenant);
      else if (turn < 0.92) await this.#revokeKey(tenant, random());
      else if (tenant === 'alice') await this.#toggleGrant();
    }
  }

  async #publish(name: Name, file: string, stage: boolean): Promise<void> {
    if (!stage) name.live.sent(performance.now(), file);
    const published = await this.#insist(stage ? 'stage' : 'publish', () =>
      publishAdapter({
        client: this.#admin(name.owner),
        given: this.params.files.folders.get(file) as string,
        name: name.name,
        parent: name.parent,
        stage,
        output: SILENT,
        signal: this.params.mayWait,
      }),
    );
    if (published === null) return;
    const { version, digest } = published.version;
    if (!name.versions.has(version)) name.versions.set(version, { file, digest, there: new Timeline(true) });
    if (stage) return;
    await this.#went(name, version);
  }

  async #went(name: Name, version: number): Promise<void> {
    name.live.settled(performance.now(), name.versions.get(version)?.file ?? '');
    name.liveVersion = version;
    await this.#look(name, null);
  }

  /** With a key of its owner's. */
  async #look(name: Name, version: number | null): Promise<void> {
    const [key] = this.#validKeys(name.owner);
    if (key !== undefined) await this.params.look(key, name, version);
  }

  async #goLive(name: Name, action: 'promote' | 'rollback', pick: number): Promise<void> {
    const candidates = this.#versions(name, true);
    if (candidates.length === 0) return;
    const [version, { file }] = picked(candidates, pick);
    name.live.sent(performance.now(), file);
    const client = this.#admin(name.owner);
    const done = await this.#insist(action, () =>
      action === 'promote'
        ? callOperation(client, action, 'POST /admin/promote', { body: { name: name.name, version } })
        : callOperation(client, action, 'POST /admin/rollback', { body: { name: name.name, to: version } }),
    );
    if (done !== null) await this.#went(name, version);
  }

  /** To whatever was live before: with what is known as `expect`, a repetition does not go back twice. */
  async #rollBackOnce(name: Name): Promise<void> {
    if (name.versions.size < 2) return;
    const client = this.#admin(name.owner);
    const before = name.liveVersion;
    for (const { file } of name.versions.values()) name.live.sent(performance.now(), file);
    const live = await this.#insist<number | null>(
      'rollback to before',
      async () => {
        const body = { name: name.name, expect: before };
        return (await callOperation(client, 'roll back', 'POST /admin/rollback', { body })).version;
      },
      // Nothing was live before, or the first attempt did it.
      async (code) => (code === 'version_conflict' ? this.#liveNow(name) : null),
    );
    if (live !== null) await this.#went(name, live);
  }

  async #remove(name: Name, pick: number): Promise<void> {
    const candidates = this.#versions(name, true).filter(([version]) => version !== name.liveVersion);
    if (candidates.length < 2) return;
    const [version, { there }] = picked(candidates, pick);
    there.sent(performance.now(), false);
    const body = { name: name.name, version };
    const done = await this.#insist<unknown>(
      'remove',
      () => callOperation(this.#admin(name.owner), 'remove', 'POST /admin/remove', { body }),
      async () => ((await this.#listed(name)).has(version) ? null : true),
    );
    if (done === null) return;
    there.settled(performance.now(), false);
    await this.#look(name, version);
  }

  async #restore(name: Name, pick: number): Promise<void> {
    const candidates = this.#versions(name, false);
    if (candidates.length === 0) return;
    const [version, { there }] = picked(candidates, pick);
    there.sent(performance.now(), true);
    const body = { name: name.name, version };
    const done = await this.#insist<unknown>(
      'restore',
      () => callOperation(this.#admin(name.owner), 'restore', 'POST /admin/restore', { body }),
      async () => ((await this.#listed(name)).has(version) ? true : null),
    );
    if (done === null) return;
    there.settled(performance.now(), true);
    await this.#look(name, version);
  }

  async createKey(tenant: Tenant): Promise<void> {
    if (this.#validKeys(tenant).length >= MOST_KEYS) return;
    const secret = generateApiKey('gk');
    const label = `${tenant}-${this.keys.length}`;
    const key: Key = { tenant, label, secret, id: '', valid: new Timeline(false) };
    key.valid.sent(performance.now(), true);
    // By its hash, so that a repetition makes no second one.
    const body = { hash: await hashApiKey(secret), tenant, label };
    const made = await this.#insist('create key', () =>
      callOperation(this.#operator, 'create a key', 'POST /admin/keys', { body }),
    );
    if (made === null) return;
    key.id = made.id;
    key.valid.settled(performance.now(), true);
    this.keys.push(key);
    if (this.names.length > 0) await this.params.look(key, this.#ownName(tenant), null);
  }

  async #revokeKey(tenant: Tenant, pick: number): Promise<void> {
    // The first one stays.
    const candidates = this.#validKeys(tenant).slice(1);
    if (candidates.length === 0) return;
    const key = picked(candidates, pick);
    key.valid.sent(performance.now(), false);
    const done = await this.#insist('revoke key', async () => {
      await callOperation(this.#admin(tenant), 'revoke a key', 'DELETE /admin/keys/:id', {
        params: { id: key.id },
      });
      return true;
    });
    if (done === null) return;
    key.valid.settled(performance.now(), false);
    await this.params.look(key, this.#ownName(tenant), null);
  }

  async #toggleGrant(): Promise<void> {
    const before = this.granted.certain;
    if (before === null) return;
    this.granted.sent(performance.now(), !before);
    const where = { scope: SHARED, tenant: 'bob' };
    const client = this.#admin('alice');
    const done = before
      ? await this.#insist(
          'take grant',
          async () => {
            await callOperation(client, 'take a grant', 'DELETE /admin/grants', { query: where });
            return true;
          },
          // A repetition finds none.
          async (code) => (code === 'not_found' ? true : null),
        )
      : await this.#insist('give grant', () =>
          callOperation(client, 'give a grant', 'POST /admin/grants', { body: where }),
        );
    if (done === null) return;
    this.granted.settled(performance.now(), !before);
    const shared = this.names.find(({ name }) => name === SHARED) as Name;
    await this.params.look(this.#validKeys('bob')[0] as Key, shared, null);
  }

  /** What an operator does after KV was damaged. */
  async repair(): Promise<void> {
    await this.#insist('repair', async () => {
      for (let cursor: string | null = null; ;) {
        const page: { cursor: string | null } = await callOperation(
          this.#operator,
          'repair',
          'POST /admin/repair',
          { body: { cursor } },
        );
        if ((cursor = page.cursor) === null) return true;
      }
    });
  }

  /** Everything acknowledged is as it was acknowledged. */
  async compareAll(): Promise<void> {
    const { onBreach } = this.params;
    for (const name of this.names) {
      const listed = await this.#insist('list versions', () => this.#listed(name));
      if (listed === null) continue;
      for (const [version, { digest, there, file }] of name.versions) {
        const found = listed.get(version);
        const detail = { name: name.name, version, file };
        if (there.certain === true && found === undefined)
          onBreach('lost', 'an acknowledged version is missing', detail);
        if (there.certain === false && found !== undefined)
          onBreach('lost', 'a removed version is back', detail);
        if (found !== undefined && found.digest !== digest)
          onBreach('lost', 'a version has another file', { ...detail, digest, found: found.digest });
      }
      const live = [...listed].find(([, one]) => one.live)?.[0] ?? null;
      if (name.live.certain !== null && live !== name.liveVersion)
        onBreach('lost', 'another version is live than was acknowledged', {
          name: name.name,
          acknowledged: name.liveVersion,
          live,
        });
    }
    for (const tenant of TENANTS) {
      const rows = await this.#insist('list keys', async () => {
        const list = await callOperation(this.#admin(tenant), 'list keys', 'GET /admin/keys', {});
        return new Map(list.keys.map((key) => [key.id, key.revoked_at === null]));
      });
      for (const key of this.keys.filter((one) => one.tenant === tenant && one.valid.certain !== null))
        if (rows !== null && rows.get(key.id) !== key.valid.certain)
          onBreach('lost', 'a key is not as acknowledged', {
            key: key.label,
            acknowledged: key.valid.certain ? 'valid' : 'revoked',
            listed: rows.get(key.id) ?? 'missing',
          });
    }
    const grants = await this.#insist('list grants', () =>
      callPages(this.#admin('alice'), 'list grants', 'GET /admin/grants', {}, (page) => page.grants),
    );
    const isGranted = grants?.some(({ scope, tenant }) => scope === SHARED && tenant === 'bob');
    if (grants !== null && this.granted.certain !== null && isGranted !== this.granted.certain)
      onBreach('lost', 'a grant is not as acknowledged', { acknowledged: this.granted.certain, isGranted });
  }

  async #listed(name: Name): Promise<Map<number, { digest: string; live: boolean }>> {
    const list = await lookUpVersions(this.#admin(name.owner), name.name);
    return new Map((list?.versions ?? []).map((row) => [row.version, row]));
  }

  async #liveNow(name: Name): Promise<number | null> {
    return [...(await this.#listed(name))].find(([, { live }]) => live)?.[0] ?? null;
  }

  #versions(name: Name, there: boolean): [number, Version][] {
    return [...name.versions].filter(([, version]) => version.there.certain === there);
  }

  #validKeys(tenant: Tenant): Key[] {
    return this.keys.filter((key) => key.tenant === tenant && key.valid.certain === true);
  }

  #ownName(tenant: Tenant): Name {
    return this.names.find(({ owner }) => owner === tenant) as Name;
  }

  #admin(tenant: Tenant): ApiClient {
    return this.#admins.get(tenant) as ApiClient;
  }

  #rest(ms: number): Promise<unknown> {
    return sleep(ms, undefined, { signal: this.params.mayWait }).catch(() => undefined);
  }

  /**
   * Sends a change until it is acknowledged.
   * @param settle whether a refusal means that an earlier attempt did it; null = no.
   * @returns null when the run is interrupted, or it was not acknowledged, which is a breach.
   */
  async #insist<T>(
    what: string,
    attempt: () => Promise<T>,
    settle: (code: string) => Promise<T | null> = async () => null,
  ): Promise<T | null> {
    const { report, onBreach, mayWait } = this.params;
    const since = performance.now();
    for (let tries = 0; !mayWait.aborted; tries++) {
      try {
        const value = await attempt();
        report.change(what, tries);
        return value;
      } catch (error) {
        const code = error instanceof CliError ? error.code : null;
        const settled = code === null ? null : await settle(code).catch(() => null);
        if (settled !== null) {
          report.change(what, tries);
          return settled;
        }
        const refused =
          error instanceof CliError && error.exitCode !== EXIT.unavailable && error.exitCode !== EXIT.error;
        const isLate = performance.now() - since >= INSIST_MS;
        if ((refused || isLate) && !mayWait.aborted) {
          const message = error instanceof Error ? error.message : String(error);
          onBreach(refused ? 'lost' : 'stuck', `${what}: ${message}`, { tries: tries + 1, code });
          return null;
        }
      }
      await this.#rest(PAUSE_MS);
    }
    return null;
  }
}
