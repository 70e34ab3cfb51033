/** Calls of every method of every ledger, each in all the ways in which it asks other statements. */
import { USAGE_GROUPS } from '../../../protocol/admin-api/tenants.ts';
import type { ExperimentEvaluation } from '../../../protocol/admin-api/experiments.ts';
import { TRAINING_DEFAULTS } from '../../../protocol/training.ts';
import { usableRanges } from '../../../worker/access/authenticate.ts';
import type { createD1Stores } from '../../../worker/d1-stores.ts';
import type { Erasure } from '../../../worker/erasure/ports.ts';
import type { KeptEvaluation, WholeScore } from '../../../worker/evaluations/ports.ts';
import type { NameRow, Registry, VersionRow } from '../../../worker/registry/ports.ts';
import type { TrainingJob } from '../../../worker/training/ports.ts';
import {
  digestOf,
  ended,
  ENDED_AT,
  experimentRow,
  keyRow,
  MINUTE,
  NO_CAPS,
  trafficHour,
  versionRow,
} from '../../contracts/sample-rows.ts';

export type Ledgers = ReturnType<typeof createD1Stores>;

/** For each method of each ledger, something that calls it. */
type Drives = {
  [L in keyof Ledgers]: { [M in keyof Ledgers[L]]: (ledger: Ledgers[L]) => Promise<unknown> };
};

const AT = 1_800_000_000_000;
const DAY_MS = 86_400_000;
/** Owner of the names below, and another tenant. */
const ME = 'default';
const YOU = 'you';
const note = { actor: 'key_1', at: AT, why: 'because' };
const page = { cursor: 'a', limit: 9 };
const firstPage = { cursor: null, limit: 9 };

const team = versionRow('team', 1);
/** Another owner's, on top of it. */
const notes = versionRow('you/notes', 1, {
  owner: YOU,
  parent: 'team@1',
  chain: [...team.chain, ...versionRow('you/notes', 1, { owner: YOU }).chain],
});
const { digest } = team;
const part = { sha256: digestOf('part'), bytes: 9 };
const record = { bytes: 9, parts: [part] };

const publish = async (
  registry: Registry,
  row: VersionRow,
  more: Partial<Parameters<Registry['publish']>[0]> = {},
): Promise<unknown> =>
  registry.publish({ row, stage: false, before: await registry.name(row.name), ...more });

const named = async (registry: Registry, name: string): Promise<NameRow> => {
  const row = await registry.name(name);
  if (row === null) throw new Error(`${name} does not exist`);
  return row;
};

/** @returns the name's row as it is before something erases it. */
const going = async (registry: Registry, name: string): Promise<NameRow> => ({
  ...(await named(registry, name)),
  removedAt: 0,
});

const rights = {
  tenant: ME,
  scopes: ['a/**', 'b', '**'],
  grants: [
    { scope: 'c/**', owner: YOU },
    { scope: 'c/d/**', owner: 'they' },
  ],
};
const windows = [
  { from: '', to: '\u007f', limit: 9 },
  { from: 'a/', to: 'a/\u007f', limit: 9 },
];

const page1 = { token: 'token', digest };
const job: TrainingJob = {
  ...{ id: 'ftjob-1', tenant: ME, name: 'trained', parent: 'team@1', base: 'tiny', status: 'queued' },
  ...{ origin: null, finishedAt: null, lookedAt: AT, revision: 1, keyId: 'key_1', createdAt: AT },
  asked: {
    ...{ model: 'team', suffix: null, method: 'supervised', n_epochs: 'auto', batch_size: 'auto' },
    ...{ learning_rate_multiplier: 'auto', beta: 'auto', metadata: null },
  },
  request: { ...TRAINING_DEFAULTS, targets: [...TRAINING_DEFAULTS.targets] },
  chain: [{ digest, scale: 1 }],
  rows: { file: 'file-1', bytes: 9, sha256: digest },
  ...{ validation: null, wanted: 'run', checkpoints: null, heardAt: AT, doneAt: null, startedAt: null },
  ...{ seen: 0, trained: 0, spent: 0, events: 1, estimatedFinish: null, error: null, result: null },
};
const event = { at: AT, level: 'info', message: 'hello', metrics: null } as const;
const used = {
  ...{ tenant: ME, hour: 500_000, keyId: 'key_1', name: 'team', version: 1, base: 'tiny' },
  ...{ requests: 1, errors: 0, promptTokens: 5, completionTokens: 5 },
};

const evaluation: KeptEvaluation = {
  ...{ name: 'team', label: 'rows', tenant: ME, rows: 1, bytes: 9, sha256: digest, judge: null },
  ...{ labelled: true, createdAt: AT, createdBy: 'key_1' },
};
const scored: WholeScore = {
  ...{ exact: '1', nats: 1, tokens: 1, at: AT, macroF1: 1, confusion: [['yes', 'yes', 1]] },
};

const experiment = experimentRow('a');
const live = experimentRow(
  'a',
  { status: 'running', version: 2, namespace: { name: 'space', range: [0, 0.5] } },
  { startedAt: AT },
);
const decided = experimentRow('a', { status: 'decided', version: 3 }, { startedAt: AT, endedAt: AT });
const began = { ...note, why: null, action: 'experiment_start' } as const;
const look: ExperimentEvaluation = {
  ...{ at: AT, seed: live.document.seed, coverage: 1, units: {}, health: [], arms: {}, alpha: 0.05 },
  sample_ratio: { state: 'ok', p_value: 1 },
  ...{ comparisons: [], guardrails: [], progress: null, shadow: {} },
  decision: { action: 'wait', reason: 'units', units: 7, needed: 200 },
};

const hours = { from: 1, to: 9 };

const kept = {
  ...{ tenant: ME, at: AT, id: 'request', keyId: 'key_1', name: 'team', user: 'user', sealed: 'sealed' },
};

/** One that has begun to settle, as the last step finds it. */
const erasure = (kind: Erasure['kind'], target: string): Erasure => ({
  ...{ id: 1, kind, target, owner: ME, usage: true },
  ...{ step: 'rest', place: '', touchedAt: AT, endedAt: AT },
});
const OF_TENANT = erasure('tenant', ME);
const OF_NAME = erasure('name', 'team');
const goingNames = [
  { name: 'team', version: 0 },
  { name: 'support/intent', version: 3 },
];

/** In this order: a backup is restored into an empty registry, and an erasure leaves nothing to the others. */
export const DRIVES: Drives = {
  backups: {
    plan: (backups) => backups.plan(),
    counts: (backups) => backups.counts(),
    async rows(backups) {
      for (const { name } of (await backups.plan()).tables) {
        const read = await backups.rows({ table: name, cursor: null });
        const key = await keyOf(backups, name, read?.columns ?? []);
        await backups.rows({ table: name, cursor: key });
      }
    },
    async begin(backups) {
      await backups.begin({ id: 'b1', dryRun: true });
      await backups.begin({ id: 'b1', dryRun: false });
    },
    proofs: (backups) => backups.proofs(firstPage),
    isBegun: (backups) => backups.isBegun('b1'),
    write: (backups) => backups.write({ table: 'upkeep', columns: ['job', 'cursor'], rows: [['j', 'c']] }),
    end: (backups) => backups.end('b1'),
  },

  keyLedger: {
    async add(keys) {
      for (const id of ['key_1', 'key_2'])
        await keys.add(keyRow(id, { keep_prompts: 24, improve: true, train: true, publish: true }));
    },
    async list(keys) {
      for (const tenant of [null, ME])
        for (const cursor of [null, '1-key_1']) await keys.list({ tenant, cursor, limit: 9 });
    },
    get: (keys) => keys.get('key_1'),
    toWrite: (keys) => keys.toWrite(digestOf('key_1')),
    admin: (keys) => keys.admin(digestOf('key_1')),
    rotate: (keys) => keys.rotate({ row: { ...keyRow('key_3'), replaces: 'key_2' }, expiresAt: AT }),
    change: (keys) => keys.change(keyRow('key_3', { label: 'other' }), keyRow('key_3')),
    async revoke(keys) {
      for (const successors of [true, false])
        for (const made of [true, false]) await keys.revoke({ id: 'key_3', successors, made, at: AT });
    },
    async line(keys) {
      for (const successors of [true, false])
        for (const made of [true, false])
          await keys.line({ id: 'key_3', successors, made, after: null, limit: 9 });
    },
    madeBy: (keys) => keys.madeBy({ id: 'key_1', at: 1, limit: 9 }),
    page: (keys) => keys.page(page),
    ofTenant: (keys) => keys.ofTenant({ ...page, tenant: ME }),
  },

  registry: {
    async publish(registry) {
      for (const row of [team, versionRow('team', 2), notes, versionRow('free', 1)])
        await publish(registry, row, { claimant: row.owner });
      for (const version of [3, 4]) await publish(registry, versionRow('support/intent', version));
      await publish(registry, versionRow('team', 3), { stage: true });
      // A conflict each: the file was never sent, and no token has sent it.
      const upload = { token: 't', keyId: 'key_1', right: 'train', job: 'j' } as const;
      await publish(registry, versionRow('other', 1), { sentBy: ME });
      await publish(registry, versionRow('other', 1), { upload });
      await publish(registry, versionRow('other', 1), { upload: { token: 't', keyId: 'bootstrap' } });
      await publish(registry, versionRow('team', 4), { before: await going(registry, 'team') });
    },
    flip: async (registry) => registry.flip({ ...note, before: await named(registry, 'team'), to: 1 }),
    retire: async (registry) =>
      registry.retire({ ...note, before: await named(registry, 'free'), version: 1, digest: 'none' }),
    async alias(registry) {
      const of = { ...note, name: 'short', owner: ME };
      await registry.alias({ ...of, before: null, target: 'team', claimant: ME });
      await registry.alias({ ...of, before: await named(registry, 'short'), target: null });
    },
    setStrict: async (registry) =>
      registry.setStrict({ ...note, before: await named(registry, 'team'), strict: true }),
    setAbout: async (registry) =>
      registry.setAbout({
        ...note,
        before: await named(registry, 'team'),
        about: { description: 'd', tags: [] },
      }),
    repaired: async (registry) => registry.repaired({ ...note, before: await named(registry, 'team') }),
    name: (registry) => registry.name('team'),
    version: (registry) => registry.version('team', 1),
    describedVersion: (registry) => registry.describedVersion('team', 1),
    live: (registry) => registry.live('team'),
    async names(registry) {
      await registry.names({ ...page, prefix: 'a', owner: null });
      await registry.names({ ...page, prefix: 'a', owner: ME });
    },
    versions: (registry) => registry.versions('team'),
    versionsOf: (registry) => registry.versionsOf({ digest, limit: 9 }),
    proofs: (registry) =>
      registry.proofs({ digest, chainId: team.chainId, baseDigest: team.base.digest, limit: 9 }),
    async history(registry) {
      for (const name of ['team', null])
        for (const owner of [ME, null])
          for (const before of [9, null]) await registry.history({ name, owner, before, limit: 9 });
    },
    newestStaged: (registry) => registry.newestStaged('team'),
    pointer: (registry) => registry.pointer('team'),
    async pointerToWrite(registry) {
      await registry.pointerToWrite('team');
      await registry.pointerToWrite('missing');
    },
    pointers: (registry) => registry.pointers(page),
    async stalePointers(registry) {
      await registry.stalePointers({ limit: 9, newest: true });
      await registry.stalePointers({ limit: 9, newest: false });
    },
    pointersWritten: (registry) => registry.pointersWritten([{ name: 'team', change: 1 }]),
    async usable(registry) {
      for (const scopes of [rights.scopes, ['a/**', 'b']])
        await registry.usable({ tenant: ME, layers: usableRanges({ ...rights, scopes }, 3), windows });
    },
    dependents: (registry) => registry.dependents(team, 9),
    stops: (registry) => registry.stops(team),
    around: (registry) => registry.around('team/notes/x'),
    async rooms(registry) {
      await registry.rooms({ ...page, tenant: null });
      await registry.rooms({ ...page, tenant: ME });
    },
    reserve: (registry) => registry.reserve({ ...note, name: 'room', tenant: ME }),
    release: (registry) => registry.release({ ...note, name: 'room' }),
    descendants: (registry) =>
      registry.descendants({ items: [{ name: 'team', version: null }], owner: ME, limit: 9 }),
    holders: (registry) => registry.holders({ items: [{ name: 'team', version: 1 }], owner: ME }),
    async remove(registry) {
      for (const cascade of [false, true]) {
        const items = [
          { name: 'free', version: null, before: await named(registry, 'free') },
          { name: 'team', version: 2, before: await named(registry, 'team') },
        ];
        await registry.remove({ ...note, items, owner: ME, cascade });
      }
    },
    async removedVersions(registry) {
      await registry.removedVersions({ name: 'free' }, 1);
      await registry.removedVersions({ removal: 1 }, 1);
    },
    async removedNames(registry) {
      await registry.removedNames({ name: 'free' }, 1);
      await registry.removedNames({ removal: 1 }, 1);
    },
    async withRemoved(registry) {
      const of = { ...firstPage, prefix: '', since: 1 };
      for (const owner of [null, ME]) await registry.withRemoved({ ...of, owner });
    },
    async restore(registry) {
      const [version] = await registry.removedVersions({ name: 'team' }, 1);
      const before = await named(registry, 'team');
      await registry.restore({
        ...note,
        names: await registry.removedNames({ name: 'free' }, 1),
        versions: version === undefined ? [] : [{ ...version, before }],
      });
    },
    forgetRemoved: (registry) => registry.forgetRemoved({ before: 1, limit: 9, at: AT }),
  },

  blobLedger: {
    touch: (blobs) => blobs.touch({ digest, at: AT }),
    rely: (blobs) => blobs.rely({ digest, tenant: ME, at: AT }),
    claimLeft: (blobs) => blobs.claimLeft({ digest, at: AT }),
    leftIsGone: (blobs) => blobs.leftIsGone({ digest, claim: AT }),
    storing: (blobs) => blobs.storing({ digest, part, at: AT }),
    leave: (blobs) => blobs.leave({ digest, part }),
    addPart: (blobs) => blobs.addPart({ digest, tenant: ME, part: { ...part, index: 0 }, since: AT, at: AT }),
    sent: (blobs) => blobs.sent(digest, ME),
    keep: (blobs) => blobs.keep({ digest, sha256s: [part.sha256], at: AT }),
    finish: (blobs) => blobs.finish({ digest, record, since: AT, at: AT }),
    record: (blobs) => blobs.record(digest),
    hold: (blobs) => blobs.hold({ digest, tenant: ME, at: AT }),
    isProof: (blobs) => blobs.isProof(digest, part.sha256),
    holds: (blobs) => blobs.holds(digest, ME),
    records: (blobs) => blobs.records(page),
    readBackAt: (blobs) => blobs.readBackAt(digest),
    noteReadBack: (blobs) => blobs.noteReadBack({ digest, at: AT }),
    markDamaged: (blobs) => blobs.markDamaged({ digest, at: AT }),
    mended: (blobs) => blobs.mended({ digest, at: AT }),
    forgetPart: (blobs) => blobs.forgetPart({ digest, tenant: ME, index: 0 }),
  },

  rowAudit: {
    async page(audit) {
      for (let cursor: string | null = null; ;) {
        ({ cursor } = await audit.page({ cursor, limit: 1 }));
        if (cursor === null) break;
      }
    },
  },

  grantLedger: {
    async add(grants) {
      await grants.add({ tenant: YOU, scope: 'team/**', owner: ME, created_at: 1, created_by: 'x' }, NO_CAPS);
    },
    async madeFromPrompts(grants) {
      for (const name of ['team', null])
        for (const below of [true, false]) await grants.madeFromPrompts({ name, below, owner: ME });
    },
    holderOf: (grants) => grants.holderOf({ scopes: ['team/**'], owner: ME }),
    get: (grants) => grants.get({ tenant: YOU, scope: 'team/**', owner: ME }),
    counts: (grants) => grants.counts({ tenant: YOU, owner: ME }),
    toWrite: (grants) => grants.toWrite(YOU),
    heldBy: (grants) => grants.heldBy([YOU, '*']),
    usableBy: (grants) => grants.usableBy(YOU),
    async list(grants) {
      for (const owner of [null, ME]) await grants.list({ owner, cursor: 'a\nb\nc', limit: 9 });
    },
    refuse: (grants) => grants.refuse({ tenant: YOU, owner: ME, created_at: 1, created_by: 'x' }, 9),
    refusedBy: (grants) => grants.refusedBy(YOU),
    accept: (grants) => grants.accept({ tenant: YOU, owner: ME }),
    async remove(grants) {
      await grants.remove({ tenant: YOU, scope: 'team/**', owner: ME });
      await grants.remove({ tenant: YOU, scope: 'team/**' });
    },
  },

  staleRights: {
    list: (rights) => rights.list(9),
    written: (rights) => rights.written(1),
  },

  tenantLimits: {
    get: (limits) => limits.get(ME),
    set: (limits) => limits.set({ tenant: ME, limits: {}, changed_at: 1, changed_by: 'x', was: 0 }),
    wrote: (limits) => limits.wrote({ tenant: ME, revision: 1, written_to: 'key_1' }),
    list: (limits) => limits.list(page),
    unwritten: (limits) => limits.unwritten(9),
  },

  usage: {
    add: (usage) => usage.add({ id: 'batch', at: AT, rows: [used] }),
    async sum(usage) {
      for (const by of USAGE_GROUPS)
        for (const tenant of [null, ME])
          for (const place of [null, { source: 0, after: [ME, 1] }])
            await usage.sum({ ...hours, by, tenant, place });
    },
    ofName: (usage) => usage.ofName({ ...hours, tenant: ME, name: 'team' }),
    async rows(usage) {
      for (const names of [null, ['team']]) await usage.rows({ tenant: ME, names });
    },
    async forget(usage) {
      for (const names of [['team'], null])
        await usage.forget({ tenant: ME, names, until: 500_000, limit: 9 });
    },
  },

  traffic: {
    writeHour: (traffic) => traffic.writeHour(trafficHour([ended()])),
    async read(traffic) {
      for (const tenant of [null, ME])
        for (const name of [null, 'team'])
          for (const keyId of [null, 'key_1'])
            await traffic.read({ tenant, name, keyId, from: 0, to: 86_400, step: 300 });
      await traffic.read({ tenant: ME, name: null, keyId: null, from: 0, to: 86_400, step: 86_400 });
    },
    tend: (traffic) => traffic.tend(ENDED_AT + 2 * DAY_MS),
    forget: (traffic) => traffic.forget({ tenant: ME, names: ['team'], step: 3600, from: 0, to: 3600 }),
  },

  keptPrompts: {
    add: (prompts) => prompts.add([kept]),
    read: (prompts) => prompts.read({ tenant: ME, id: 'request', at: null, now: 1 }),
    noteReading: (prompts) => prompts.noteReading({ tenant: ME, id: 'request', actor: 'key_1', at: AT }),
    async limit(prompts) {
      for (const hours of [1, null]) await prompts.limit({ tenant: YOU, keyIds: ['key_1'], hours });
    },
    tend: (prompts) => prompts.tend(1),
  },

  preferences: {
    add: (preferences) =>
      preferences.add({ tenant: ME, keyId: 'key_1', chosen: 'request', rejected: 'other', at: AT }),
    list: (preferences) => preferences.list({ tenant: ME, now: 1 }),
    texts: (preferences) => preferences.texts({ tenant: ME, requests: [kept], now: 1 }),
    consenting: (preferences) => preferences.consenting({ tenant: ME, keyIds: ['key_1'] }),
    noteReading: (preferences) =>
      preferences.noteReading({ tenant: ME, name: 'team', actor: 'key_1', at: AT }),
    tend: (preferences) => preferences.tend(1),
  },

  pins: {
    add: (pins) => pins.add({ name: 'team', at: AT, actor: 'key_1' }, 9),
    list: (pins) => pins.list(),
    remove: (pins) => pins.remove('team'),
  },

  originHistory: {
    note: (history) => history.note([MINUTE]),
    read: (history) => history.read({ origin: 'o1', from: 0, to: 600, step: 300 }),
    forget: (history) => history.forget(9),
  },

  fileNames: { of: (files) => files.of([digest], 9) },

  dropLedger: {
    put: (drops) => drops.put({ name: 'team', sha256: digest, version: null, at: AT, removedAt: null }),
    recent: (drops) => drops.recent('team'),
    removed: (drops) =>
      drops.removed({ name: 'team', sha256: digest, version: null, at: AT, removedAt: null }, AT),
  },

  pageUploads: {
    async claim(uploads) {
      const of = { ...page1, tenant: ME, most: 3, files: 1, expiresAt: AT };
      for (const bytes of [1, 9]) await uploads.claim({ ...of, bytes });
    },
    async sentWith(uploads) {
      const sent = uploads.sentWith(page1);
      await sent.add({ index: 0, ...part }, { since: 1, at: 1 });
      await sent.sent();
      await sent.forget(0);
    },
    attempt: (uploads) => uploads.attempt(page1),
    versionOf: (uploads) => uploads.versionOf('token'),
    tend: (uploads) => uploads.tend(1),
  },

  rowFiles: {
    begin: (files) =>
      files.begin({ id: 'file-1', tenant: ME, keyId: 'key_1', bytes: 9, at: AT, expiresAt: AT }),
    grow: (files) => files.grow({ id: 'file-1', parts: 1, at: AT }),
    finish: (files) =>
      files.finish({
        ...{ id: 'file-1', tenant: ME, filename: 'f', bytes: 9, lines: 1, parts: 1, sha256: digest },
        expiresAt: AT,
      }),
    get: (files) => files.get({ id: 'file-1', tenant: ME, now: 1 }),
    async list(files) {
      for (const newestFirst of [true, false])
        await files.list({ tenant: ME, after: null, newestFirst, limit: 9, now: 1 });
    },
    remove: (files) => files.remove({ id: 'file-1', tenant: ME, at: AT }),
    erase: (files) => files.erase({ tenant: YOU, limit: 9, at: AT }),
    due: (files) => files.due(1),
    gone: (files) => files.gone(['file-2']),
  },

  trainingJobs: {
    async create(jobs) {
      await jobs.create(job, event);
      // The name is taken; and one that ended long ago.
      await jobs.create({ ...job, id: 'ftjob-2', tenant: YOU }, event);
      await jobs.create({ ...job, id: 'ftjob-3', name: 'old', finishedAt: 1 }, event);
    },
    get: (jobs) => jobs.get({ id: job.id, tenant: ME }),
    list: (jobs) => jobs.list({ tenant: ME, after: null, limit: 9 }),
    events: (jobs) => jobs.events({ job: job.id, before: null, limit: 9 }),
    lease: (jobs) => jobs.lease({ id: job.id, now: 1, until: 2 }),
    renew: (jobs) => jobs.renew({ id: job.id, until: 2, next: 3 }),
    release: (jobs) => jobs.release({ id: job.id, until: 3 }),
    async save(jobs) {
      const given = await jobs.save(job, { origin: 'o1', beganAt: AT }, { events: [event] });
      await jobs.save(given ?? job, { origin: null }, { leaves: true, usage: used });
    },
    attended: (jobs) => jobs.attended({ now: 1, limit: 9 }),
    waitingBases: (jobs) => jobs.waitingBases(AT),
    busyOrigins: (jobs) => jobs.busyOrigins(),
    next: (jobs) => jobs.next({ base: 'tiny', now: AT }),
    deletions: (jobs) => jobs.deletions({ now: AT, limit: 9 }),
    deleted: (jobs) => jobs.deleted({ origin: 'o1', job: job.id, now: AT }),
    leaves: (jobs) => jobs.leaves({ origin: 'o1', job: 'ftjob-9' }),
    async uncounted(jobs) {
      for (const tenant of [null, ME]) await jobs.uncounted({ tenant, limit: 9 });
    },
    counted: (jobs) => jobs.counted({ tenant: ME, batch: 'batch' }),
    tend: (jobs) => jobs.tend(AT),
    erase: (jobs) => jobs.erase({ erasure: 1, tenant: ME, limit: 9 }),
  },

  evaluations: {
    keep: (evaluations) =>
      evaluations.keep({ evaluation, parts: [{ first: 0, sealed: 'sealed' }], secret: 'secret' }),
    get: (evaluations) => evaluations.get(evaluation),
    list: (evaluations) => evaluations.list('team'),
    part: (evaluations) => evaluations.part({ ...evaluation, first: 0 }),
    addScore: (evaluations) =>
      evaluations.addScore({ evaluation, chainId: team.chainId, digest, after: 0, added: scored }),
    score: (evaluations) => evaluations.score({ ...evaluation, chainId: team.chainId }),
    scoresOfVersions: (evaluations) => evaluations.scoresOfVersions({ name: 'team', limit: 9 }),
    scoresOfChains: (evaluations) => evaluations.scoresOfChains({ name: 'team', chainIds: [team.chainId] }),
    sealedBy: (evaluations) => evaluations.sealedBy({ secrets: ['secret'], limit: 9 }),
    reseal: (evaluations) =>
      evaluations.reseal({ ...evaluation, first: 0, sealed: 'again', was: 'sealed', secret: 'other' }),
    forgetScore: (evaluations) => evaluations.forgetScore({ ...evaluation, chainId: team.chainId }),
    remove: (evaluations) => evaluations.remove(evaluation),
  },

  experimentLedger: {
    create: (experiments) =>
      experiments.create({ row: experiment, note: { ...began, action: 'experiment_create' } }),
    async save(experiments) {
      await experiments.save({ row: live, note: began });
      await experiments.save({ row: decided, note: began, flip: { from: 4, to: 3 } });
    },
    get: (experiments) => experiments.get(live.id),
    ofName: (experiments) => experiments.ofName('support/intent'),
    async list(experiments) {
      for (const owner of [null, ME])
        for (const name of [null, 'support/intent'])
          for (const status of [null, 'running'] as const)
            for (const cursor of [null, '1-exp'])
              await experiments.list({ owner, name, status, cursor, limit: 9 });
    },
    inTurn: (experiments) => experiments.inTurn({ at: AT, limit: 9 }),
    overlapping: (experiments) =>
      experiments.overlapping({ except: 'e', owner: ME, namespace: { name: 'space', range: [0, 1] } }),
    look: (experiments) =>
      experiments.look({
        row: { experiment: live.id, seed: live.document.seed, at: AT, evaluation: look },
        keep: 4,
      }),
    looks: (experiments) => experiments.looks({ experiment: live.id, seed: live.document.seed, limit: 9 }),
    unsettled: (experiments) => experiments.unsettled({ endedBefore: AT, limit: 9 }),
    settle: (experiments) => experiments.settle('exp_none'),
    behind: (experiments) => experiments.behind(9),
    written: (experiments) => experiments.written({ id: live.id, version: 2 }),
    using: (experiments) => experiments.using({ name: 'support/intent', version: 3, owner: ME }),
  },

  outbox: {
    add: (outbox) => outbox.add({ id: 'm', source: live.id, url: 'https://x', body: '{}' }, AT),
    retract: (outbox) => outbox.retract('m'),
    due: (outbox) => outbox.due({ now: AT, limit: 9 }),
    done: (outbox) => outbox.done('m'),
    later: (outbox) => outbox.later('m', AT),
    forget: (outbox) => outbox.forget(1),
  },

  webhooks: {
    async add(webhooks) {
      const row = { url: 'https://x', events: ['budget.used' as const], created_at: AT, created_by: 'root' };
      await webhooks.add({ id: 'hook_1', tenant: ME, ...row }, 9);
      await webhooks.add({ id: 'hook_2', tenant: null, ...row }, 9);
    },
    get: (webhooks) => webhooks.get('hook_1'),
    async list(webhooks) {
      for (const tenant of [null, ME]) await webhooks.list({ tenant, cursor: null, limit: 9 });
    },
    tell: (webhooks) =>
      webhooks.tell([{ id: 'msg:budget:me:1', tenant: ME, event: 'budget.used', data: {} }], AT),
    absences: (webhooks) => webhooks.absences(),
    changeAbsences: (webhooks) =>
      webhooks.changeAbsences({ begun: ['o1'], told: ['o1'], over: ['o1'], alerts: [] }, AT),
    remove: (webhooks) => webhooks.remove('hook_1'),
  },

  garbage: {
    unused: (garbage) => garbage.unused({ touchedBefore: AT, cursor: 'a', scan: 500, limit: 9 }),
    mark: (garbage) => garbage.mark({ digest, touchedBefore: AT, at: AT }),
    async beginCollecting(garbage) {
      await garbage.beginCollecting({ digest, markedBefore: AT, at: AT });
    },
    beginDropping: (garbage) => garbage.beginDropping({ digest, touchedBefore: AT, at: AT }),
    takeOver: (garbage) => garbage.takeOver({ digest, at: AT }),
    goOn: (garbage) => garbage.goOn({ digest, claim: AT, at: AT, limit: 9 }),
    letGo: (garbage) => garbage.letGo({ digest, claim: AT }),
    partsCollected: (garbage) => garbage.partsCollected({ digest, sha256s: [part.sha256], claim: AT }),
    collected: (garbage) => garbage.collected({ digest, claim: AT }),
    surplus: (garbage) => garbage.surplus({ keptBefore: AT, limit: 9 }),
    beginPart: (garbage) => garbage.beginPart({ digest, sha256: part.sha256, keptBefore: AT, at: AT }),
    postpone: (garbage) => garbage.postpone({ digest, at: AT }),
    position: (garbage) => garbage.position(),
    setPosition: (garbage) => garbage.setPosition('a'),
  },

  erasures: {
    async plan(erasures) {
      for (const cascade of [true, false])
        for (const { kind, target } of [OF_TENANT, OF_NAME, erasure('below', 'team')])
          await erasures.plan({ kind, target, owner: ME, cascade, usage: true, at: AT });
    },
    async owners(erasures) {
      for (const kind of ['name', 'below'] as const) await erasures.owners(kind, 'team');
    },
    ownerOfBegun: (erasures) => erasures.ownerOfBegun('tenant', ME),
    get: (erasures) => erasures.get(1),
    begunOf: (erasures) => erasures.begunOf(OF_TENANT),
    keys: (erasures) => erasures.keys(OF_TENANT, '', 9),
    experiments: (erasures) => erasures.experiments(OF_TENANT, 9),
    withdrawExperiments: (erasures) => erasures.withdrawExperiments([live.id]),
    forgetExperiments: (erasures) => erasures.forgetExperiments(OF_TENANT, [live.id]),
    names: (erasures) => erasures.names(OF_TENANT, 9),
    forgetNames: (erasures) => erasures.forgetNames(OF_TENANT, goingNames, AT),
    others: (erasures) => erasures.others(OF_TENANT, '', 9),
    endAliases: (erasures) => erasures.endAliases(['short']),
    files: (erasures) => erasures.files(OF_TENANT, 9),
    releaseFile: (erasures) => erasures.releaseFile(OF_TENANT, digest, AT),
    fileLeftTo: (erasures) => erasures.fileLeftTo(OF_TENANT, digest, ['o1']),
    fileStays: (erasures) => erasures.fileStays(OF_TENANT, digest),
    atOrigins: (erasures) => erasures.atOrigins(OF_TENANT, { after: '', limit: 9, all: true }),
    unused: (erasures) => erasures.unused([digest]),
    wholeNames: (erasures) => erasures.wholeNames(OF_TENANT, '', 9),
    forgetPrompts: (erasures) => erasures.forgetPrompts(OF_TENANT),
    holders: (erasures) => erasures.holders(OF_TENANT, 9),
    forgetGrantsFrom: (erasures) => erasures.forgetGrantsFrom(OF_TENANT, [YOU]),
    async forgetHistory(erasures) {
      for (const of of [OF_TENANT, OF_NAME]) await erasures.forgetHistory(of, 9);
    },
    unwrittenKeys: (erasures) => erasures.unwrittenKeys(OF_TENANT, 9),
    forgetTenant: (erasures) => erasures.forgetTenant(OF_TENANT, [1]),
    async begin(erasures) {
      for (const cascade of [true, false])
        for (const { kind, target } of [OF_TENANT, OF_NAME, erasure('below', 'team')]) {
          const of = { kind, target, owner: ME, cascade, usage: true, at: AT };
          const { id } = await erasures.plan(of);
          await erasures.begin({ ...note, id, cascade, record: true });
        }
    },
    move: (erasures) => erasures.move(1, { step: 'rest', place: '', at: AT }),
    next: (erasures) => erasures.next({ steps: ['keys', 'rest'], touchedBefore: AT }),
    end: (erasures) => erasures.end(1),
    discard: (erasures) => erasures.discard(2),
  },
};

/** @returns a cursor behind the table's first rows: as many values as its key has. */
async function keyOf(backups: Ledgers['backups'], table: string, columns: string[]): Promise<string | null> {
  for (let length = 1; length <= columns.length; length += 1) {
    const cursor = JSON.stringify(Array.from({ length }, () => 0));
    if ((await backups.rows({ table, cursor })) !== null) return cursor;
  }
  return null;
}

/** @returns `ledger.method` of each that no drive calls. */
export const undriven = (ledgers: Ledgers): string[] =>
  Object.entries(ledgers).flatMap(([name, ledger]) => {
    const drives: object | undefined = DRIVES[name as keyof Ledgers];
    return Object.keys(ledger)
      .filter((method) => !Object.hasOwn(drives ?? {}, method))
      .map((method) => `${name}.${method}`);
  });

/**
 * Calls them all.
 * @param asked what the ledgers have asked so far; it grows. @returns `ledger.method` of each that asks nothing.
 */
export async function driveAll(ledgers: Ledgers, asked: { readonly length: number }): Promise<string[]> {
  const silent: string[] = [];
  async function drive<L extends keyof Ledgers>(name: L): Promise<void> {
    const drives: Record<string, (ledger: Ledgers[L]) => Promise<unknown>> = DRIVES[name];
    for (const [method, call] of Object.entries(drives)) {
      const before = asked.length;
      await call(ledgers[name]);
      if (asked.length === before) silent.push(`${name}.${method}`);
    }
  }
  for (const name of Object.keys(DRIVES) as (keyof Ledgers)[]) await drive(name);
  return silent;
}
