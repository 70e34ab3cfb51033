import { seededRandom } from '../seeded-random.ts';
import { ASK_HEADER, POOL_HEADER } from '../../protocol/pool-notes.ts';
import { MAX_TURNED_AWAY } from '../../worker/origins/limits.ts';
import {
  createHomes,
  createIsolate,
  OBJECT_MS,
  type Isolate,
  type Policy,
  type Sent,
  type Tells,
} from './policies.ts';
import { SimulatedOrigin, type Keeping, type LoadCost, type Turn } from './simulated-origin.ts';
import { VirtualTime } from './virtual-time.ts';
import { arrivals, CROWD, DAY_MS, staticOptimum, zipf, type WorkloadKind } from './workloads.ts';

export interface FleetCase {
  kind: WorkloadKind;
  policy: Policy;
  origins: number;
  names: number;
  /** Share of all names that fit one origin's memory. */
  memory: number;
  keeping: Keeping;
  /** Isolates of the edge; default 4. */
  isolates?: number;
  /** They live so long, ms, exponentially, and a new one knows nothing; default: for ever. */
  lifeMs?: number;
  /** Default: as the worker does. */
  tells?: Tells;
  /** Default: {@link FLEET}'s, whatever else is loaded. */
  load?: LoadCost;
  /** Origins have {@link UNEQUAL} times their slots and memory, in turn. */
  unequal?: boolean;
  /** Share of requests that continue a conversation; default 0. */
  laterTurns?: number;
  /** About so many requests are looked at. */
  requests: number;
  /** Requests that fill the memories before, at most; a day's unless given. */
  fills?: number;
}

export interface FleetOutcome extends FleetCase {
  /** Requests that were looked at, those of the time in which memories and averages settle left out. */
  counted: number;
  /** Share of them that found their chain in memory where they came. */
  resident: number;
  /** What the best fixed placement gives, by the names' shares. */
  optimum: number;
  /** From the edge to a row, loading included, ms. */
  queueP50Ms: number;
  queueP99Ms: number;
  loadsPerMinute: number;
  /** Share of all requests that a crowded origin turned away; one may be twice. */
  turnedAway: number;
  /** Share of later turns that came where their conversation's prompt was; null = there are none. */
  knownTurns: number | null;
  /** Answers cut by an origin's death. */
  cut: number;
  /** Characters of `x-graft-pool`, on the mean of requests and answers, and the most. */
  notes: { request: number; answer: number; most: number };
  /** Of a flash crowd: s from its beginning until 99 % of it got a row within 1 s, to its end; null = never. */
  absorbedS: number | null;
  /** The same where one late request of each 5 s does not count: fewer than a hundred come in them to a small fleet. */
  absorbedButOneS: number | null;
  /** Of a flash crowd: the crowd's 99th percentile of each 5 s, ms. */
  crowdP99Ms: number[];
}

/** What all origins and requests have in common. */
export const FLEET = {
  ...{ slots: 16, serviceMs: 2_000, isolates: 4, settleMs: 60_000 },
  load: { waitMs: 500, mb: 0, mbPerS: 1 },
  /** Prompts of 1,000 tokens in int8 that an eighth of 24 GB holds, and reading one of them again. */
  ...{ prompts: 256, rereadMs: 500 },
  /** Origins that die or drain are back after this time. */
  backAfterMs: 30_000,
};
const UNEQUAL = [0.5, 1, 1.5, 1];
/** Of a name, those that go on; the oldest ends. */
const MOST_CONVERSATIONS = 100;
/** Origins that one request is sent to at most: those that are down refuse connections. */
const MOST_TRIES = 20;
const WINDOW_MS = 5_000;
const WELL_MS = 1_000;
/** Memories are filled by a day of asking before time begins, or by so many requests where a day has more. */
const FILLED_BY = { ms: 86_400_000, mostRequests: 3_000_000 };

/** One run in virtual time; the same outcome for the same case and seed. */
export function simulateFleet(run: FleetCase, seed: number): FleetOutcome {
  const random = seededRandom(seed);
  const time = new VirtualTime();
  const { slots, serviceMs, prompts, rereadMs } = FLEET;
  const memory = Math.max(1, Math.round(run.names * run.memory));
  const { keeping, load = FLEET.load } = run;
  const origins = Array.from({ length: run.origins }, (_, i) => {
    const size = run.unequal === true ? (UNEQUAL[i % UNEQUAL.length] as number) : 1;
    const own = { slots: slots * size, memory: Math.max(1, Math.round(memory * size)) };
    return new SimulatedOrigin(`o${i}`, { time, load, keeping, prompts, rereadMs, ...own });
  });
  const homeOf = createHomes(origins);
  const { policy, names } = run;
  fillMemories({ run, origins, homeOf, random });
  const { isolates: count = FLEET.isolates, lifeMs = Infinity, tells = 'edges' } = run;
  const lives = seededRandom(seed + 1);
  const born = (): { isolate: Isolate; until: number } => ({
    isolate: createIsolate({ policy, tells, origins, now: () => time.now, random, homeOf }),
    until: time.now - Math.log(1 - lives()) * lifeMs,
  });
  let isolates = Array.from({ length: count }, born);
  const rows = origins.reduce((sum, origin) => sum + origin.slots, 0);
  const isShaken = run.kind === 'deploy' || run.kind === 'die' || run.kind === 'drain';
  const lastsMs =
    run.kind === 'flash' || isShaken
      ? CROWD.beginsMs + CROWD.lastsMs
      : run.kind === 'diurnal'
        ? DAY_MS
        : FLEET.settleMs + (run.requests * serviceMs) / (0.6 * rows);
  const queues: number[] = [];
  const windows: number[][] = Array.from({ length: CROWD.lastsMs / WINDOW_MS }, () => []);
  let residents = 0;
  let loadsBefore = 0;
  let sent = 0;
  let settled = false;
  let turnedAway = 0;
  let cut = 0;
  const notes = { request: 0, answer: 0, most: 0 };
  const stream = arrivals({ kind: run.kind, names, rows, serviceMs, lastsMs, random });

  const arrive = (name: number) => {
    const at = time.now;
    if (!settled && at >= FLEET.settleMs) {
      settled = true;
      loadsBefore = origins.reduce((sum, { loads }) => sum + loads, 0);
    }
    const index = Math.floor(random() * isolates.length);
    if ((isolates[index]?.until ?? 0) <= at) isolates[index] = born();
    const turn = turnOf(name);
    const going = isolates[index]?.isolate.send(name, sent + 1, turn?.conversation ?? null);
    sent += 1;
    if (going === undefined) return;
    const asked = {
      ...{ name, at, turn, counts: settled },
      serviceMs: -Math.log(1 - random()) * serviceMs,
      isCrowd: run.kind === 'flash' && name === names - 1 && at >= CROWD.beginsMs,
    };
    place(asked, going);
  };
  interface Request {
    name: number;
    /** Ms. */
    at: number;
    turn: Turn | null;
    serviceMs: number;
    /** Whether the figures have it. */
    counts: boolean;
    isCrowd: boolean;
  }
  const place = (request: Request, first: Sent): void => {
    const { name, at, turn, serviceMs: ownMs, counts, isCrowd } = request;
    let going = first;
    let turns = 1;
    for (let tries = 0; tries < MOST_TRIES; tries += 1) {
      const { origin, headers } = going;
      if (origin.state === 'down') going = going.failed();
      else if (origin.state === 'draining') going = going.refused();
      else {
        origin.pool.hear(headers[POOL_HEADER]);
        notes.request += headers[POOL_HEADER]?.length ?? 0;
        if (!origin.pool.turnsAway(headers[ASK_HEADER])) break;
        turnedAway += 1;
        going = going.turned(origin.pool.tell(headers[ASK_HEADER]), turns < MAX_TURNED_AWAY);
        turns += 1;
      }
    }
    const { origin, headers, onRow, onEnd, failed } = going;
    if (counts && origin.isResident(name)) residents += 1;
    origin.serve({
      ...{ chain: name, serviceMs: ownMs, turn, onEnd },
      onRow() {
        const told = origin.pool.tell(headers[ASK_HEADER]);
        notes.answer += told?.length ?? 0;
        notes.most = Math.max(notes.most, told?.length ?? 0);
        onRow(told);
        if (counts) queues.push(time.now - at);
        if (isCrowd) windows[Math.floor((at - CROWD.beginsMs) / WINDOW_MS)]?.push(time.now - at);
      },
      onLost(hadRow) {
        const elsewhere = failed();
        if (hadRow) cut += 1;
        else place(request, elsewhere);
      },
    });
  };
  const talks = seededRandom(seed + 2);
  const conversations = new Map<number, number[]>();
  let begun = 0;
  const turnOf = (name: number): Turn | null => {
    const { laterTurns = 0 } = run;
    if (laterTurns === 0) return null;
    const going = conversations.get(name) ?? [];
    conversations.set(name, going);
    const goesOn = going[Math.floor(talks() * going.length)];
    if (goesOn !== undefined && talks() < laterTurns) return { conversation: goesOn, isFirst: false };
    going.push((begun += 1));
    if (going.length > MOST_CONVERSATIONS) going.shift();
    return { conversation: begun, isFirst: true };
  };
  if (isShaken)
    time.after(CROWD.beginsMs, () => {
      if (run.kind === 'deploy') isolates = isolates.map(born);
      else
        for (const origin of origins.filter((_, i) => i % 8 === 1))
          if (run.kind === 'die') origin.die(FLEET.backAfterMs);
          else origin.drain(FLEET.backAfterMs);
    });
  const ask = () => {
    const told = origins.map(({ pool }) => pool.tell('own') ?? undefined);
    for (const { pool } of origins) for (const note of told) pool.hear(note);
    if (time.now < lastsMs) time.after(OBJECT_MS, ask);
  };
  if (tells === 'object') ask();
  const next = () => {
    const { value, done } = stream.next();
    if (done === true) return;
    time.after(value.at - time.now, () => {
      arrive(value.name);
      next();
    });
  };
  next();
  time.runAll();
  const sumOf = (count: (origin: SimulatedOrigin) => number) =>
    origins.reduce((sum, origin) => sum + count(origin), 0);
  const loads = sumOf((origin) => origin.loads) - loadsBefore;
  queues.sort((a, b) => a - b);
  const at = (sorted: number[], share: number) => sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
  const isFlash = run.kind === 'flash';
  return {
    ...run,
    counted: queues.length,
    resident: residents / queues.length,
    optimum: staticOptimum(zipf(names), Math.min(names, memory * run.origins)),
    queueP50Ms: at(queues, 0.5),
    queueP99Ms: at(queues, 0.99),
    turnedAway: turnedAway / sent,
    knownTurns:
      (run.laterTurns ?? 0) > 0
        ? sumOf(({ knownTurns }) => knownTurns) / sumOf(({ laterTurns }) => laterTurns)
        : null,
    cut,
    notes: { ...notes, request: notes.request / sent, answer: notes.answer / sent },
    loadsPerMinute: loads / ((lastsMs - FLEET.settleMs) / 60_000),
    absorbedS: isFlash ? absorbedAfter(windows, 0) : null,
    absorbedButOneS: isFlash ? absorbedAfter(windows, 1) : null,
    crowdP99Ms: isFlash
      ? windows.map((window) =>
          at(
            [...window].sort((a, b) => a - b),
            0.99,
          ),
        )
      : [],
  };
}

/** @param allowed late ones of a window. @returns s until the first of the windows behind which all are well; null when the last one is not. */
function absorbedAfter(windows: readonly number[][], allowed: number): number | null {
  const isWell = (window: number[]) =>
    window.filter((ms) => ms > WELL_MS).length <= Math.max(allowed, window.length / 100);
  const lastBad = windows.findLastIndex((window) => !isWell(window));
  return lastBad === windows.length - 1 ? null : ((lastBad + 1) * WINDOW_MS) / 1_000;
}

/** As a long time of asking leaves them: names where the policy sends them while nobody is busy. */
function fillMemories(params: {
  run: FleetCase;
  origins: readonly SimulatedOrigin[];
  homeOf: (chain: number) => SimulatedOrigin;
  random: () => number;
}): void {
  const { run, origins, homeOf, random } = params;
  const isSpread = run.policy === 'random' || run.policy === 'least-loaded';
  const load = { kind: 'zipf', names: run.names, rows: run.origins * FLEET.slots } as const;
  const perMs = (0.6 * load.rows) / FLEET.serviceMs;
  const lastsMs = Math.min(FILLED_BY.ms, (run.fills ?? FILLED_BY.mostRequests) / perMs);
  const filling = arrivals({ ...load, serviceMs: FLEET.serviceMs, lastsMs, random });
  for (const { name } of filling) {
    const origin = isSpread ? origins[Math.floor(random() * origins.length)] : homeOf(name);
    origin?.remember(name);
  }
}
