import { createD1ExperimentLedger } from '../../../worker/experiments/d1-experiments.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { openDatabase } from '../platform/database.ts';
import { beforeEach, describe, expect, it } from 'vitest';
import type { ExperimentEvaluation } from '../../../protocol/admin-api/experiments.ts';
import type { Experiment } from '../../../protocol/experiment.ts';
import type {
  ExperimentLedger,
  ExperimentNote,
  ExperimentRow,
  Flip,
} from '../../../worker/experiments/ports.ts';
import type { NameRow, Registry } from '../../../worker/registry/ports.ts';
import { experimentOf } from './sample-experiment.ts';
import { digestOf, experimentId, experimentRow, versionRow } from '../../contracts/sample-rows.ts';

interface ExperimentRig {
  ledger: ExperimentLedger;
  /** Of the same database. */
  registry: Registry;
  /** Takes an experiment away, as an erasure does. */
  erase: (id: string) => Promise<void>;
}

const NAME = 'support/intent';
const evaluationAt = (at: number, seed = 'support-intent-2'): ExperimentEvaluation => ({
  at,
  seed,
  coverage: 1,
  ...{ health: [], arms: {} },
  units: { control: 3, treatment: 4 },
  sample_ratio: { state: 'ok', p_value: 0.5 },
  alpha: 0.05,
  comparisons: [],
  guardrails: [],
  progress: null,
  shadow: {},
  decision: { action: 'wait', reason: 'units', units: 7, needed: 200 },
});

const note = (action: ExperimentNote['action'], more: Partial<ExperimentNote> = {}): ExperimentNote => ({
  actor: 'key_1',
  at: 5,
  action,
  why: null,
  ...more,
});

/** The next document of a row. */
function next(
  row: ExperimentRow,
  changes: Partial<Experiment>,
  more: Partial<ExperimentRow> = {},
): ExperimentRow {
  return { ...row, document: { ...row.document, version: row.document.version + 1, ...changes }, ...more };
}
const STARTED = { startedAt: 10, coverageAt: 10 };

const make = async (): Promise<ExperimentRig> => {
  const db = await openDatabase();
  return {
    registry: createD1Registry(db),
    ledger: createD1ExperimentLedger(db),
    async erase(id) {
      await db.prepare('DELETE FROM experiments WHERE id = ?').bind(id).run();
    },
  };
};

describe('ExperimentLedger', () => {
  let ledger: ExperimentLedger;
  let registry: Registry;
  let erase: ExperimentRig['erase'];
  const nameOf = async (name: string) => (await registry.name(name)) as NameRow;
  const publish = async (name: string, versions: number, owner = 'default') => {
    for (let version = 1; version <= versions; version += 1)
      await registry.publish({
        row: versionRow(name, version, { owner }),
        stage: version > 3,
        before: await registry.name(name),
      });
  };
  const create = async (row: ExperimentRow) => {
    expect(await ledger.create({ row, note: note('experiment_create') })).toEqual({
      ok: true,
      value: null,
    });
    return row;
  };
  const save = async (row: ExperimentRow, action: ExperimentNote['action'], flip?: Flip) => {
    const saved = await ledger.save({ row, note: note(action), ...(flip === undefined ? {} : { flip }) });
    expect(saved).toEqual({ ok: true, value: null });
    return row;
  };
  const start = (row: ExperimentRow) => save(next(row, { status: 'running' }, STARTED), 'experiment_start');
  const refused = { ok: false, error: { kind: 'conflict' } };
  const historyOf = async (name: string) =>
    (await registry.history({ name, owner: null, before: null, limit: 99 })).reverse();

  beforeEach(async () => {
    ({ ledger, registry, erase } = await make());
    await publish(NAME, 5);
  });

  it('keeps what it is given, and tells the history of the name', async () => {
    expect(await ledger.get(experimentId('a'))).toBeNull();
    expect(await ledger.ofName(NAME)).toBeNull();
    const row = experimentRow('a', { shadow: { adapter: `${NAME}@5`, sample: 0.1 } });
    expect(await ledger.create({ row, note: note('experiment_create', { why: "it's time" }) })).toMatchObject(
      {
        ok: true,
      },
    );
    expect(await ledger.get(row.id)).toEqual(row);
    expect(await ledger.ofName(NAME)).toEqual(row);
    const { sequence } = await nameOf(NAME);
    expect((await historyOf(NAME)).at(-1)).toMatchObject({
      name: NAME,
      sequence,
      at: 5,
      actor: 'key_1',
      owner: 'default',
      action: 'experiment_create',
      from: 3,
      to: null,
      target: row.id,
      why: "it's time",
    });
  });

  it('gives a name one experiment that is not archived', async () => {
    const first = await create(experimentRow('a'));
    const second = experimentRow('b');
    const before = await historyOf(NAME);
    expect(await ledger.create({ row: second, note: note('experiment_create') })).toMatchObject(refused);
    expect(await historyOf(NAME)).toEqual(before);
    await save(next(first, { status: 'archived' }), 'experiment_archive');
    expect(await ledger.ofName(NAME)).toBeNull();
    await create(second);
    expect((await ledger.ofName(NAME))?.id).toBe(second.id);
  });

  it('lets one of two changes of the same version through, whole', async () => {
    const row = await create(experimentRow('a'));
    const one = await start(row);
    const before = await historyOf(NAME);
    const other = next(row, { status: 'archived' });
    expect(await ledger.save({ row: other, note: note('experiment_archive') })).toMatchObject(refused);
    expect(await ledger.get(row.id)).toEqual(one);
    expect(await historyOf(NAME)).toEqual(before);
  });

  it('makes whoever has read the name before a conflict', async () => {
    const before = await nameOf(NAME);
    const row = await create(experimentRow('a'));
    expect(await registry.flip({ before, to: 1, actor: 'x', at: 1 })).toMatchObject(refused);
    const created = await nameOf(NAME);
    await start(row);
    expect(await registry.flip({ before: created, to: 1, actor: 'x', at: 1 })).toMatchObject(refused);
    expect((await nameOf(NAME)).version).toBe(3);
  });

  it('flips the name with the end of the experiment, or neither', async () => {
    const live = await start(await create(experimentRow('a')));
    const decided = next(live, { status: 'decided', winner: 'treatment' });
    const stale = { ...decided, document: { ...decided.document, version: 2 } };
    const flip = { from: 3, to: 4 };
    expect(await ledger.save({ row: stale, note: note('experiment_promote'), flip })).toMatchObject(refused);
    expect((await nameOf(NAME)).version).toBe(3);
    // Somebody made another version live since it was read.
    const over = { row: decided, note: note('experiment_promote'), flip: { from: 2, to: 4 } };
    expect(await ledger.save(over)).toMatchObject(refused);
    await save(decided, 'experiment_promote', flip);
    expect((await nameOf(NAME)).version).toBe(4);
    expect((await historyOf(NAME)).at(-1)).toMatchObject({ action: 'experiment_promote', from: 3, to: 4 });
    expect((await registry.newestStaged(NAME))?.version).toBe(5);
  });

  it('keeps what was proposed first, until another seed or the variant is dropped', async () => {
    const variants = ['control', 'treatment', 'other', 'third'].map((key, i) => ({
      ...{ key, adapter: `${NAME}@${i + 1}`, weight: 0.25 },
    }));
    const live = await start(await create(experimentRow('a', { variants })));
    const proposal = { variant: 'treatment', at: 20, units: 300 };
    const look = (at: number, proposed?: typeof proposal) =>
      ledger.look({
        row: { experiment: live.id, seed: live.document.seed, at, evaluation: evaluationAt(at) },
        keep: 9,
        ...(proposed === undefined ? {} : { proposal: proposed }),
      });
    await look(20, proposal);
    await look(21);
    await look(22, { ...proposal, at: 22 });
    // Whoever changes it has not seen the proposal.
    const killed = await save(next(live, { killed: true }), 'experiment_kill');
    const kept = (await ledger.get(live.id)) as ExperimentRow;
    expect(kept).toMatchObject({ proposal, evaluation: { at: 22 }, document: { killed: true } });
    const other = await save(next(killed, { dropped: ['other'] }), 'experiment_drop');
    expect((await ledger.get(live.id))?.proposal).toEqual(proposal);
    const gone = await save(next(other, { dropped: ['other', 'treatment'] }), 'experiment_drop');
    expect((await ledger.get(live.id))?.proposal).toBeNull();
    // By a look that began before.
    await look(23, proposal);
    expect((await ledger.get(live.id))?.proposal).toBeNull();
    await look(24, { ...proposal, variant: 'third' });
    expect((await ledger.get(live.id))?.proposal?.variant).toBe('third');
    await save(next(gone, { seed: 'anew', dropped: [] }, { stepUnits: 7 }), 'experiment_change');
    expect(await ledger.get(live.id)).toMatchObject({ proposal: null, evaluation: null, stepUnits: 7 });
  });

  it('names those that have ended and wait for their last look', async () => {
    for (const name of ['b', 'c']) await publish(name, 4);
    const end = async (letter: string, name: string, endedAt: number) =>
      save(
        next(await start(await create(experimentRow(letter, { name }))), { status: 'decided' }, { endedAt }),
        'experiment_stop',
      );
    await end('a', NAME, 30);
    const b = await end('b', 'b', 40);
    await start(await create(experimentRow('c', { name: 'c' })));
    const waiting = async (endedBefore: number, limit = 9) =>
      (await ledger.unsettled({ endedBefore, limit })).map(({ id }) => id);
    expect(await waiting(29)).toEqual([]);
    expect(await waiting(30)).toEqual([experimentId('a')]);
    expect(await waiting(99)).toEqual([experimentId('a'), experimentId('b')]);
    expect(await waiting(99, 1)).toEqual([experimentId('a')]);
    await ledger.settle(experimentId('a'));
    expect(await waiting(99)).toEqual([experimentId('b')]);
    // Nobody can report anything for it any more.
    await save(next(b, { status: 'archived' }), 'experiment_archive');
    expect(await waiting(0)).toEqual([experimentId('b')]);
  });

  it('lists the newest first, of an owner, a name, a status, page by page', async () => {
    await publish('other', 4, 'somebody');
    const one = await create(experimentRow('a'));
    await save(next(one, { status: 'archived' }), 'experiment_archive');
    const two = await start(await create(experimentRow('b')));
    const three = experimentRow('c', { name: 'other' }, { owner: 'somebody' });
    await create(three);
    const all = { owner: null, name: null, cursor: null, limit: 9 };
    const ids = async (params: Partial<Parameters<ExperimentLedger['list']>[0]>) =>
      (await ledger.list({ ...all, ...params })).items.map(({ id }) => id.at(-1));
    expect(await ids({})).toEqual(['c', 'b', 'a']);
    expect(await ids({ owner: 'default' })).toEqual(['b', 'a']);
    expect(await ids({ name: NAME })).toEqual(['b', 'a']);
    expect(await ids({ owner: 'somebody', name: NAME })).toEqual([]);
    expect(await ids({ status: 'running' })).toEqual(['b']);
    expect(await ids({ status: null })).toHaveLength(3);
    const page = await ledger.list({ ...all, limit: 2 });
    expect(page.items.map(({ id }) => id)).toEqual([three.id, two.id]);
    expect(await ids({ cursor: page.cursor })).toEqual(['a']);
    await erase(two.id);
    expect(await ids({ cursor: page.cursor })).toEqual(['a']);
    expect((await ledger.list(all)).cursor).toBeNull();
  });

  it('gives each live one its turn before any has it again', async () => {
    for (const name of ['b', 'c', 'd']) await publish(name, 4);
    await start(await create(experimentRow('a')));
    await start(await create(experimentRow('b', { name: 'b' })));
    await create(experimentRow('c', { name: 'c' }));
    await start(await create(experimentRow('d', { name: 'd' })));
    const turn = async (at: number, limit: number) =>
      (await ledger.inTurn({ at, limit })).map(({ id }) => id);
    expect(await turn(10, 2)).toEqual([experimentId('a'), experimentId('b')]);
    expect(await turn(11, 2)).toEqual([experimentId('a'), experimentId('d')]);
    expect(await turn(12, 9)).toEqual([experimentId('a'), experimentId('b'), experimentId('d')]);
  });

  it('lets no two live experiments of an owner share a range of a namespace', async () => {
    for (const name of ['b', 'c', 'd']) await publish(name, 4);
    await publish('e', 4, 'somebody');
    const ranged = (letter: string, name: string, range: [number, number], space = 'space') =>
      experimentRow(letter, { name, namespace: { name: space, range } });
    await start(await create(ranged('a', NAME, [0, 0.5])));
    await start(await create(ranged('b', 'b', [0.5, 1])));
    await start(await create(ranged('c', 'c', [0, 1], 'elsewhere')));
    const row = await create(ranged('d', 'd', [0.4, 0.6]));
    const of = { except: row.id, owner: 'default', namespace: row.document.namespace as never };
    expect(await ledger.overlapping(of)).toEqual([experimentId('a'), experimentId('b')]);
    expect(await ledger.overlapping({ ...of, except: experimentId('a') })).toEqual([experimentId('b')]);
    expect(await ledger.overlapping({ ...of, owner: 'somebody' })).toEqual([]);
    const started = next(row, { status: 'running' }, STARTED);
    expect(await ledger.save({ row: started, note: note('experiment_start') })).toMatchObject(refused);
    const a = (await ledger.get(experimentId('a'))) as ExperimentRow;
    await save(next(a, { status: 'decided' }), 'experiment_stop');
    const b = (await ledger.get(experimentId('b'))) as ExperimentRow;
    await save(next(b, { status: 'decided' }), 'experiment_stop');
    await save(started, 'experiment_start');
  });

  it('of another owner is no obstacle: what it names is withdrawn, and its name’s pointer is to be written', async () => {
    const row = await create(experimentRow('a', { variants: pair(4, 5) }));
    await save(next(row, { status: 'running' }, STARTED), 'experiment_start');
    const theirs = { ...versionRow('theirs', 1, { owner: 'them' }) };
    for (const version of [1, 2])
      await registry.publish({
        row: versionRow('theirs', version, { owner: 'them' }),
        ...{ stage: false, before: await registry.name('theirs') },
      });
    await registry.publish({ row: versionRow('mine', 1), stage: false, before: null });
    const b = await create({
      ...experimentRow('b', {
        name: 'mine',
        variants: experimentOf({ variants: pair(1, 1) }).variants.map((one) => ({
          ...one,
          adapter: 'theirs@1',
        })),
      }),
    });
    await save(next(b, { status: 'running' }, STARTED), 'experiment_start');
    expect(await registry.stops(theirs)).toEqual({ versions: 0, experiments: 1 });
    expect(await ledger.using({ name: 'theirs', version: 1, owner: 'them' })).toEqual([]);
    const noted = () => registry.stalePointers({ limit: 9, newest: true });
    await registry.pointersWritten(await noted());
    const before = await nameOf('theirs');
    const retired = await registry.retire({ before, version: 1, digest: theirs.digest, actor: 'x', at: 7 });
    expect(retired).toMatchObject({ ok: true });
    const change = expect.any(Number);
    expect(await noted()).toEqual([{ name: 'mine', since: 7, change }]);
    // The kill switch works all the same.
    const live = (await ledger.get(b.id)) as ExperimentRow;
    await save(next(live, { killed: true }), 'experiment_kill');
    const killed = (await ledger.get(b.id)) as ExperimentRow;
    expect(
      await ledger.save({ row: next(killed, { killed: false }), note: note('experiment_kill') }),
    ).toMatchObject(refused);
  });

  it('keeps versions that it names from being retired, until it is archived', async () => {
    const shadow = { adapter: `${NAME}@2`, sample: 0.1 };
    const row = await create(experimentRow('a', { variants: pair(4, 5), shadow }));
    const retire = async (version: number) =>
      registry.retire({
        before: await nameOf(NAME),
        version,
        digest: digestOf(`${NAME}@${version}`),
        actor: 'x',
        at: 7,
      });
    for (const version of [2, 4, 5]) {
      expect(await ledger.using({ name: NAME, version, owner: row.owner })).toEqual([row.id]);
      expect(await retire(version)).toMatchObject(refused);
    }
    expect(await ledger.using({ name: NAME, version: 1, owner: row.owner })).toEqual([]);
    expect(await retire(1)).toMatchObject({ ok: true });
    const changed = await save(
      next(row, { variants: experimentOf({ variants: pair(3, 5) }).variants }),
      'experiment_change',
    );
    expect(await ledger.using({ name: NAME, version: 4, owner: row.owner })).toEqual([]);
    expect(await retire(4)).toMatchObject({ ok: true });
    // And a version that is retired is not taken back.
    const again = next(changed, { variants: row.document.variants });
    expect(await ledger.save({ row: again, note: note('experiment_change') })).toMatchObject(refused);
    await save(next(changed, { status: 'archived' }), 'experiment_archive');
    expect(await retire(5)).toMatchObject({ ok: true });
    const late = experimentRow('b', { variants: pair(3, 5) });
    expect(await ledger.create({ row: late, note: note('experiment_create') })).toMatchObject(refused);
  });

  it('keeps looks, thinned evenly, first and last always, each seed for itself', async () => {
    const live = await start(await create(experimentRow('a')));
    const look = (at: number, seed = live.document.seed) =>
      ledger.look({ row: { experiment: live.id, seed, at, evaluation: evaluationAt(at, seed) }, keep: 4 });
    const times = async (seed = live.document.seed) =>
      (await ledger.looks({ experiment: live.id, seed, limit: 99 })).map(({ at }) => at);
    for (let at = 0; at <= 5; at += 1) await look(at);
    expect(await times()).toEqual([0, 2, 4, 5]);
    await look(6);
    expect(await times()).toEqual([0, 2, 4, 6]);
    await look(6);
    expect(await times()).toEqual([0, 2, 4, 6]);
    expect((await ledger.looks({ experiment: live.id, seed: live.document.seed, limit: 1 }))[0]).toEqual({
      experiment: live.id,
      seed: live.document.seed,
      at: 0,
      evaluation: evaluationAt(0),
    });
    expect((await ledger.get(live.id))?.evaluation).toEqual(evaluationAt(6));
    // What was read before the look does not undo it; a new seed does.
    const kept = await save(next(live, { coverage: 1 }), 'experiment_change');
    expect((await ledger.get(live.id))?.evaluation).toEqual(evaluationAt(6));
    await save(next(kept, { seed: 'anew' }, { seeds: [...live.seeds, 'anew'] }), 'experiment_change');
    expect(await ledger.get(live.id)).toMatchObject({ evaluation: null, seeds: [...live.seeds, 'anew'] });
    await look(7);
    expect((await ledger.get(live.id))?.evaluation).toBeNull();
    await look(8, 'anew');
    expect((await ledger.get(live.id))?.evaluation).toEqual(evaluationAt(8, 'anew'));
    expect(await times('anew')).toEqual([8]);
  });

  it('knows of which documents KV has not been told', async () => {
    const row = await create(experimentRow('a'));
    expect(await ledger.behind(9)).toEqual([]);
    const live = await start(row);
    expect(await ledger.behind(9)).toEqual([live]);
    await ledger.written({ id: live.id, version: 2 });
    expect(await ledger.behind(9)).toEqual([]);
    const killed = await save(next(live, { killed: true }), 'experiment_kill');
    await ledger.written({ id: live.id, version: 2 });
    expect(await ledger.behind(9)).toEqual([killed]);
    await ledger.written({ id: live.id, version: 3 });
    await ledger.written({ id: live.id, version: 2 });
    expect(await ledger.behind(9)).toEqual([]);
  });

  it('is part of the pointer of its name once it was live, the latest one', async () => {
    const row = await create(experimentRow('a'));
    const plain = { kind: 'version', row: versionRow(NAME, 3), strict: false };
    expect(await registry.pointer(NAME)).toEqual(plain);
    const live = await start(row);
    const versions = [versionRow(NAME, 3), versionRow(NAME, 4)];
    const pointed = ({ id, owner, document }: ExperimentRow) => ({ id, owner, document, versions });
    expect(await registry.pointer(NAME)).toEqual({ ...plain, experiment: pointed(live) });
    const decided = await save(next(live, { status: 'decided' }), 'experiment_stop');
    expect(await registry.pointer(NAME)).toEqual({ ...plain, experiment: pointed(decided) });
    const archived = await save(next(decided, { status: 'archived' }), 'experiment_archive');
    expect(await registry.pointer(NAME)).toEqual({ ...plain, experiment: pointed(archived) });
    const second = await create(experimentRow('b'));
    expect(await registry.pointer(NAME)).toEqual({ ...plain, experiment: pointed(archived) });
    const again = await start(second);
    expect(await registry.pointer(NAME)).toEqual({ ...plain, experiment: pointed(again) });
    await publish('without', 1);
    const { items } = await registry.pointers({ cursor: null, limit: 9 });
    expect(items.map(({ name, pointer }) => [name.name, pointer])).toEqual([
      [NAME, { ...plain, experiment: pointed(again) }],
      ['without', { kind: 'version', row: versionRow('without', 1), strict: false }],
    ]);
  });
});

const pair = (control: number, treatment: number) => [
  { key: 'control', adapter: `${NAME}@${control}`, weight: 0.5 },
  { key: 'treatment', adapter: `${NAME}@${treatment}`, weight: 0.5 },
];
