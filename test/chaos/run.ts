/** A run: everything is started, asked and changed, struck, left in peace, and compared. */
import { setMaxListeners } from 'node:events';
import { appendFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { seededRandom } from '../../bench/seeded-random.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { type Blow, picked, planBlows } from './blows.ts';
import {
  ask,
  BASE,
  findReferences,
  PROMPTS,
  type References,
  type TimedAnswer,
  writeFiles,
} from './clients.ts';
import { type Fleet, startFleet, strike } from './processes.ts';
import { type Breach, clock, Report } from './report.ts';
import { type BreachKind, judge, type Truth, type Verdict } from './truth.ts';
import { type Key, type Name, World } from './world.ts';

export interface ChaosOptions {
  seed: number;
  minutes: number;
  origins: number;
  /** That ask at once. */
  clients: number;
  /** Mean ms from one blow to the next. */
  everyMs?: number;
  /** Lines about the run. */
  say: (line: string) => void;
  /** Ends the run early, in order. */
  signal: AbortSignal;
}

export interface ChaosResult {
  report: Report;
  /** Has `log/blows.jsonl` and the processes' logs. */
  folder: string;
}

const PROGRESS_MS = 10_000;
/** After the last blow everything must answer again within this time. */
const RECOVERY_MS = 120_000;
/** More files are published in a longer run. */
const filesFor = (minutes: number): number => Math.min(24, 6 + Math.ceil(minutes));
/** How often each prompt is asked: long answers are cut more easily, short ones are more. */
const PROMPT_SHARES = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 5, 5];

export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const { seed, minutes, say, signal } = options;
  // Every blow to come waits for its time or the end.
  setMaxListeners(0, signal);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'graft-chaos-'));
  const report = new Report();
  await mkdir(path.join(folder, 'log'));
  const run = new Run(options, folder, report);
  try {
    const base = path.join(folder, 'tiny-base');
    writeTinyBase(base);
    const files = writeFiles(path.join(folder, 'files'), filesFor(minutes));
    const references = await findReferences(base, files);
    say(`seed ${seed}; logs are in ${path.join(folder, 'log')}`);
    const fleet = await startFleet({ folder, base, origins: options.origins, watcher: run.watcher });
    try {
      const world: World = new World({
        url: fleet.edge.url,
        adminKey: fleet.adminKey,
        files,
        report,
        mayWait: signal,
        onBreach: (...breach) => run.breach(...breach),
        look: (key, name, version) =>
          run.ask({ fleet, world, references, key, name, version, prompt: 0, stream: true }),
      });
      await world.prepare();
      if (report.breaches.length > 0) throw new Error('the run could not be prepared');
      await run.strikeAndAsk(fleet, world, references);
      if (!signal.aborted) await run.recover(fleet, world, references);
    } finally {
      await fleet.stop();
    }
  } finally {
    // What is needed to look into a breach stays.
    for (const part of report.breaches.length > 0 ? [] : await readdir(folder))
      if (part !== 'log') await rm(path.join(folder, part), { recursive: true, force: true, maxRetries: 5 });
  }
  return { report, folder };
}

class Run {
  #start = performance.now();
  #asked = 0;
  #blowBefore: string | null = null;
  readonly watcher = {
    onDeath: (who: string, why: string) => this.breach('died', `${who}: ${why}`, {}),
    onRestart: () => void (this.report.restarts += 1),
    onEvent: (event: string) => this.report.hear(event),
  };

  constructor(
    private readonly options: ChaosOptions,
    private readonly folder: string,
    private readonly report: Report,
  ) {}

  get #elapsed(): number {
    return performance.now() - this.#start;
  }

  breach(kind: BreachKind, why: string, detail: Record<string, unknown>): void {
    const breach: Breach = { kind, at: Math.round(this.#elapsed), why, detail, blowBefore: this.#blowBefore };
    this.report.breaches.push(breach);
    this.#log(breach);
    this.options.say(`BREACH ${JSON.stringify(breach)}`);
  }

  #log(entry: object): void {
    appendFileSync(path.join(this.folder, 'log/blows.jsonl'), `${JSON.stringify(entry)}\n`);
  }

  async strikeAndAsk(fleet: Fleet, world: World, references: References): Promise<void> {
    const { seed, minutes, origins, clients, everyMs, say, signal } = this.options;
    const durationMs = minutes * 60_000;
    const blows = planBlows({ seed, durationMs, origins, ...(everyMs === undefined ? {} : { everyMs }) });
    this.#log({ seed, minutes, origins, clients, everyMs });
    this.#start = performance.now();
    const going = () => !signal.aborted && this.#elapsed < durationMs;
    const progress = setInterval(() => say(this.report.progress(this.#elapsed)), PROGRESS_MS);
    try {
      await Promise.all([
        ...Array.from({ length: clients }, (_, i) =>
          this.#askOn({ fleet, world, references, random: seededRandom(seed * 1_000 + i), going }),
        ),
        world.change('alice', seededRandom(seed * 1_000 + 901), going),
        world.change('bob', seededRandom(seed * 1_000 + 902), going),
        ...blows.map((blow) => this.#strikeAt(blow, fleet, world)),
      ]);
    } finally {
      clearInterval(progress);
    }
    say(this.report.progress(this.#elapsed));
  }

  async #strikeAt(blow: Blow, fleet: Fleet, world: World): Promise<void> {
    const { signal } = this.options;
    const wait = (ms: number) => sleep(ms, undefined, { signal }).catch(() => undefined);
    await wait(Math.max(0, blow.at - this.#elapsed));
    if (signal.aborted) return;
    await strike(blow, {
      fleet,
      hold: wait,
      repair: () => world.repair(),
      onStruck: (what) => {
        this.report.blow(blow.kind, what !== null);
        const at = Math.round(this.#elapsed);
        if (what !== null) this.#blowBefore = `${clock(at)} ${what}`;
        this.#log({ at, kind: blow.kind, what });
      },
    }).catch((error: unknown) => this.watcher.onDeath(blow.kind, String(error)));
  }

  /** A client: one request after the other, until `going` is false. */
  async #askOn(client: {
    fleet: Fleet;
    world: World;
    references: References;
    random: () => number;
    going: () => boolean;
  }): Promise<void> {
    const { world, random, going } = client;
    while (going()) {
      const certain = world.keys.filter(({ valid }) => valid.certain === true);
      const key = picked(random() < 0.93 ? certain : world.keys, random());
      const usual = world.names.filter((name) =>
        world.usable(key, name, null, -Infinity, Infinity).has(true),
      );
      const name = random() < 0.05 ? null : picked(random() < 0.95 ? usual : world.names, random());
      const versions = [...(name?.versions.keys() ?? [])];
      const verdict = await this.ask({
        ...client,
        key,
        name,
        prompt: picked(PROMPT_SHARES, random()),
        stream: random() < 0.65,
        version: name === null || random() < 0.8 ? null : picked(versions, random()),
        ...(random() < 0.12 ? { leaveMs: 5 + 400 * random() ** 2 } : {}),
      });
      const pause = verdict.kind === 'unreachable' ? 300 : verdict.kind === 'refused' ? 60 : 30;
      await sleep(pause * (0.5 + random()));
    }
  }

  /** Asks once, and compares the answer with what was true meanwhile. */
  async ask(params: {
    fleet: Fleet;
    world: World;
    references: References;
    key: Key;
    /** Null = the base. */
    name: Name | null;
    /** Null = what is live. */
    version: number | null;
    prompt: number;
    stream: boolean;
    leaveMs?: number;
  }): Promise<Verdict> {
    const { fleet, world, references, key, name, version, prompt, stream, leaveMs } = params;
    const id = `chaos-${++this.#asked}`;
    const pinned = version === null ? '' : `@${version}`;
    const model = name === null ? BASE : `${name.name}${pinned}`;
    const from = performance.now();
    const answer = await ask(fleet.edge.url, {
      id,
      key: key.secret,
      model,
      prompt,
      stream,
      ...(leaveMs === undefined ? {} : { leaveMs }),
    });
    const truth = truthOf({ fleet, world, key, name, version, from, answer });
    const referenceOf = (chain: string) =>
      references.get(chain)?.[prompt] ?? { text: '', finish: 'no such chain' };
    const verdict = judge(answer, truth, referenceOf);
    if (this.report.answer(verdict))
      this.breach(verdict.breach, verdict.why, {
        request: { id, key: key.label, model, prompt: PROMPTS[prompt]?.text, stream },
        ms: {
          from: from - this.#start,
          began: answer.beganAt - this.#start,
          ended: answer.endedAt - this.#start,
        },
        expected: [...truth.chains].map((chain) => ({ chain, ...referenceOf(chain) })),
        truth: {
          key: [...truth.key],
          usable: [...truth.usable],
          said: truth.said,
          edgeStruck: truth.edgeStruck,
        },
        got: { ...answer, body: answer.body.slice(-2_000) },
      });
    return verdict;
  }

  /** After the last blow: all that was acknowledged is there, and each name answers each of its tenant's keys. */
  async recover(fleet: Fleet, world: World, references: References): Promise<void> {
    const { signal, say } = this.options;
    say('the blows are over; comparing what was acknowledged');
    await world.repair();
    await world.compareAll();
    const until = performance.now() + RECOVERY_MS;
    const whole = async (key: Key, name: Name, version: number | null): Promise<void> => {
      let last: Verdict = { kind: 'unreachable' };
      do {
        last = await this.ask({ fleet, world, references, key, name, version, prompt: 0, stream: false });
        if (last.kind === 'whole' || last.kind === 'breach' || signal.aborted) return;
        await sleep(500);
      } while (performance.now() < until);
      this.breach('stuck', 'it does not answer again', { key: key.label, model: name.name, version, last });
    };
    for (const key of world.keys.filter(({ valid }) => valid.certain === true))
      for (const name of world.names.filter(({ owner }) => owner === key.tenant))
        await whole(key, name, null);
    for (const name of world.names) {
      const key = world.keys.find(({ tenant }) => tenant === name.owner) as Key;
      for (const [version, { there }] of name.versions)
        if (there.certain === true) await whole(key, name, version);
        else await this.ask({ fleet, world, references, key, name, version, prompt: 0, stream: false });
    }
    // Revoked keys, and what bob may use only if it is granted.
    const [name, shared] = [
      world.names[0] as Name,
      world.names.find((one) => one.name === 'alice/shared') as Name,
    ];
    for (const key of world.keys.filter(({ valid }) => valid.certain === false))
      await this.ask({ fleet, world, references, key, name, version: null, prompt: 0, stream: true });
    const bob = world.keys.find(({ tenant }) => tenant === 'bob') as Key;
    await this.ask({
      fleet,
      world,
      references,
      key: bob,
      name: shared,
      version: null,
      prompt: 0,
      stream: true,
    });
  }
}

/** What was true from the request to its answer's first byte. */
function truthOf(params: {
  fleet: Fleet;
  world: World;
  key: Key;
  name: Name | null;
  version: number | null;
  from: number;
  answer: TimedAnswer;
}): Truth {
  const { fleet, world, key, name, version, from, answer } = params;
  const until = answer.beganAt;
  const pinned = version === null ? undefined : name?.versions.get(version)?.file;
  const of = (live: ReadonlySet<string>): ReadonlySet<string> =>
    name === null ? new Set([BASE]) : pinned === undefined ? live : new Set([pinned]);
  return {
    key: key.valid.during(from, until),
    usable: name === null ? new Set([true]) : world.usable(key, name, version, from, until),
    chains: of(name?.live.during(from, until) ?? new Set()),
    everChains: of(name?.live.ever(until) ?? new Set()),
    said: saidChain(name, answer.adapter),
    edgeStruck: fleet.edge.wasStruck(from, answer.endedAt),
  };
}

/** Another name than the one that was asked for has no chain here, and so is wrong. */
function saidChain(name: Name | null, adapter: string | null): string | null {
  if (adapter === null) return null;
  if (name === null) return adapter;
  const [said, version] = adapter.split('@');
  if (said !== name.name) return adapter;
  return name.versions.get(Number(version))?.file ?? null;
}
