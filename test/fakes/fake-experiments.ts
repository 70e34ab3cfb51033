import { adaptersOf, err, isLive, ok, pinOf, type Experiment, type Result } from '../../protocol/index.ts';
import type {
  ExperimentLedger,
  ExperimentNote,
  ExperimentRow,
  Flip,
  LookRow,
} from '../../worker/experiments/ports.ts';
import type { Conflict } from '../../worker/registry/ports.ts';
import type { FakeNames } from './fake-names.ts';

const CONFLICT: Conflict = { kind: 'conflict', name: null };

/** The ledger of experiments as a model. @param names of the fake registry that it shares a database with. */
export function createFakeExperimentLedger(names: FakeNames): ExperimentLedger {
  const rows = new Map<string, ExperimentRow>();
  /** By id. */
  const told = new Map<string, number>();
  /** When the schedule last took each, by id. */
  const attended = new Map<string, number>();
  /** Ids of those that had their last look. */
  const settled = new Set<string>();
  let looks: LookRow[] = [];
  const copy = <T>(value: T): T => structuredClone(value);
  const placeOf = ({ createdAt, id }: ExperimentRow): string => `${createdAt}-${id}`;
  const newestFirst = () =>
    [...rows.values()].sort((a, b) => b.createdAt - a.createdAt || (a.id < b.id ? 1 : -1));
  const isOf = (name: string) => (row: ExperimentRow) => row.document.name === name;
  const inUse = ({ document }: ExperimentRow) => document.status !== 'archived';
  const hasRetired = (document: Experiment) =>
    adaptersOf(document)
      .map(pinOf)
      .some(({ name, version }) => names.isRetired(name, version));
  const namesIt = (name: string, version: number) => (row: ExperimentRow) =>
    inUse(row) && adaptersOf(row.document).includes(`${name}@${version}`);

  names.experimentOf = (name) => {
    const started = newestFirst().filter((row) => isOf(name)(row) && row.startedAt !== null);
    const row = started.find(inUse) ?? started[0];
    return row === undefined ? null : copy({ id: row.id, owner: row.owner, document: row.document });
  };
  names.isUsed = (name, version, owner) =>
    [...rows.values()].some((row) => row.owner === owner && namesIt(name, version)(row));
  names.using = () =>
    [...rows.values()].filter(inUse).map(({ id, owner, document, startedAt }) => ({
      ...{ id, owner, name: document.name, started: startedAt !== null, adapters: adaptersOf(document) },
    }));

  const overlapping: ExperimentLedger['overlapping'] = async ({ except, owner, namespace }) =>
    [...rows.values()]
      .filter((row) => row.id !== except && row.owner === owner && isLive(row.document))
      .filter(({ document: { namespace: other } }) => {
        const [from, to] = namespace.range;
        return other?.name === namespace.name && other.range[0] < to && other.range[1] > from;
      })
      .map(({ id }) => id)
      .sort();

  const keep = (row: ExperimentRow, note: ExperimentNote, flip?: Flip): Result<null, Conflict> => {
    const before = rows.get(row.id);
    const sameSeed = before?.document.seed === row.document.seed;
    const stays =
      before?.proposal != null && row.document.dropped?.includes(before.proposal.variant) !== true;
    rows.set(
      row.id,
      copy({
        ...row,
        evaluation: sameSeed ? before.evaluation : null,
        proposal: sameSeed && stays ? before.proposal : null,
      }),
    );
    names.note(row.document.name, { ...note, target: row.id }, flip);
    return ok(null);
  };

  return {
    async create({ row, note }) {
      const taken = [...rows.values()].some((other) => isOf(row.document.name)(other) && inUse(other));
      return taken || rows.has(row.id) || hasRetired(row.document) ? err(CONFLICT) : keep(row, note);
    },
    get: async (id) => copy(rows.get(id) ?? null),
    ofName: async (name) => copy([...rows.values()].find((row) => isOf(name)(row) && inUse(row)) ?? null),
    async list({ owner, name, status = null, cursor, limit }) {
      const places = newestFirst().map(placeOf);
      const items = newestFirst()
        .slice(cursor === null ? 0 : places.indexOf(cursor) + 1)
        .filter((row) => owner === null || row.owner === owner)
        .filter((row) => name === null || isOf(name)(row))
        .filter((row) => status === null || row.document.status === status)
        .slice(0, limit);
      const last = items.at(-1);
      const isFull = last !== undefined && items.length === limit;
      return { items: copy(items), cursor: isFull ? placeOf(last) : null };
    },
    async inTurn({ at, limit }) {
      const since = (row: ExperimentRow) => attended.get(row.id) ?? 0;
      const byId = (a: ExperimentRow, b: ExperimentRow) => (a.id < b.id ? -1 : 1);
      const taken = [...rows.values()]
        .filter((row) => isLive(row.document))
        .sort((a, b) => since(a) - since(b) || byId(a, b))
        .slice(0, limit);
      for (const { id } of taken) attended.set(id, at);
      return copy(taken.sort(byId));
    },
    overlapping,
    async save({ row, note, flip }) {
      const { document, owner, id } = row;
      if (rows.get(id)?.document.version !== document.version - 1) return err(CONFLICT);
      const ends = document.status === 'decided' || document.status === 'archived' || document.killed;
      if (!ends && hasRetired(document)) return err(CONFLICT);
      if (flip !== undefined && names.isRetired(document.name, flip.to)) return err(CONFLICT);
      if (flip !== undefined && names.liveOf(document.name) !== flip.from) return err(CONFLICT);
      if (isLive(document) && document.namespace !== undefined) {
        const others = await overlapping({ except: id, owner, namespace: document.namespace });
        if (others.length > 0) return err(CONFLICT);
      }
      return keep(row, note, flip);
    },
    async unsettled({ endedBefore, limit }) {
      return copy(
        [...rows.values()]
          .filter(({ id, endedAt }) => endedAt !== null && !settled.has(id))
          .filter(({ endedAt, document }) => endedAt! <= endedBefore || document.status === 'archived')
          .sort((a, b) => a.endedAt! - b.endedAt! || (a.id < b.id ? -1 : 1))
          .slice(0, limit),
      );
    },
    settle: async (id) => void settled.add(id),
    async look({ row, keep: most, proposal }) {
      const own = (one: LookRow) => one.experiment === row.experiment && one.seed === row.seed;
      const { segments: _, ...evaluation } = row.evaluation;
      const kept: LookRow = { ...row, evaluation };
      const mine = [...looks.filter((one) => own(one) && one.at !== row.at), kept];
      mine.sort((a, b) => a.at - b.at);
      while (mine.length > most) mine.splice(mostCrowded(mine), 1);
      looks = copy([...looks.filter((one) => !own(one)), ...mine]);
      const experiment = rows.get(row.experiment);
      if (experiment?.document.seed !== row.seed) return;
      experiment.evaluation = copy(row.evaluation);
      const isGone = proposal !== undefined && experiment.document.dropped?.includes(proposal.variant);
      experiment.proposal ??= proposal === undefined || isGone ? null : copy(proposal);
    },
    looks: async ({ experiment, seed, limit }) =>
      copy(looks.filter((row) => row.experiment === experiment && row.seed === seed).slice(0, limit)),
    written: async ({ id, version }) => void told.set(id, Math.max(version, told.get(id) ?? 0)),
    behind: async (limit) =>
      copy(
        [...rows.values()]
          .filter((row) => row.startedAt !== null && (told.get(row.id) ?? 0) < row.document.version)
          .sort((a, b) => (a.id < b.id ? -1 : 1))
          .slice(0, limit),
      ),
    using: async ({ name, version, owner }) =>
      [...rows.values()]
        .filter((row) => row.owner === owner)
        .filter(namesIt(name, version))
        .map(({ id }) => id)
        .sort(),
  };
}

/** Place of the look, neither the first nor the last, whose neighbours are closest to one another; the oldest of such. */
function mostCrowded(looks: readonly LookRow[]): number {
  const gap = (i: number) => (looks[i + 1] as LookRow).at - (looks[i - 1] as LookRow).at;
  let place = 1;
  for (let i = 2; i < looks.length - 1; i += 1) if (gap(i) < gap(place)) place = i;
  return place;
}
