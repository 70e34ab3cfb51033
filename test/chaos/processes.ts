/** One edge and its origins as processes, with a proxy before each origin; and the blows that they get. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, type WriteStream } from 'node:fs';
import { mkdir, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { makeSecrets } from '../../cli/commands/secrets.ts';
import { endsWithUs, type OriginProcess, ROOT, startOrigin } from '../../cli/local/origin-process.ts';
import { LOOPBACK, needFreePort } from '../../cli/local/ports.ts';
import { type CuttingProxy, startCuttingProxy } from '../fakes/cutting-proxy.ts';
import { type Blow, picked, skewOf } from './blows.ts';
import type { DamageOrder, EdgeEvent, EdgeSetup } from './edge-program.ts';

/** Of every origin, the undisturbed one too: logits depend on the number of threads, and int8 keys and values
 * refuse these adapters. */
export const SAME_LOGITS = ['--threads', '1', '--provider', 'cpu', '--kv', 'f32'];
/** By origin: so little memory or disk that adapters, of 11 to 28 kB, come and go. */
const NARROW: readonly (readonly string[])[] = [
  ['--adapter-ram-bytes', '300000'],
  ['--adapter-ram-bytes', '150000', '--adapter-disk-bytes', '100000'],
  ['--adapter-disk-bytes', '60000'],
];
const PRELOAD = pathToFileURL(fileURLToPath(new URL('disturb-origin.mjs', import.meta.url))).href;
const EDGE_PROGRAM = fileURLToPath(new URL('edge-program.ts', import.meta.url));
/** A process that does not end after SIGTERM. */
const END_MS = 90_000;
const LATE = Symbol('late');
const isLate = () => sleep(END_MS, LATE, { ref: false });
const didNotEnd = (signal: string): string => `it did not end ${END_MS / 1_000} s after ${signal}`;

export interface Watcher {
  /** A process ended although no blow had struck it, or did not start. */
  onDeath(who: string, why: string): void;
  onRestart(): void;
  /** A line of an edge's or origin's log tells of an event. */
  onEvent(event: string): void;
}

/** A line each. */
interface Log {
  write(line: string): void;
  close(): Promise<void>;
}

function openLog(file: string, watcher: Watcher): Log {
  const stream: WriteStream = createWriteStream(file, { flags: 'a' });
  return {
    write(line) {
      stream.write(`${new Date().toISOString()} ${line}\n`);
      const event = /"event":"(\w+)"/.exec(line)?.[1];
      if (event !== undefined) watcher.onEvent(event);
    },
    close: () => new Promise((resolve) => stream.end(resolve)),
  };
}

/** An origin, which may be started again and again on the same port and folder. */
export class OriginSeat {
  state: 'up' | 'hung' | 'down' = 'down';
  /** The blow that is not over yet, which another one may take over; null = none. */
  blow: Blow | null = null;
  #process: OriginProcess | null = null;
  #expected = false;

  constructor(
    readonly id: string,
    readonly proxy: CuttingProxy,
    private readonly setup: {
      readonly args: readonly string[];
      readonly keys: string;
      /** Its `--cache`. */
      readonly cache: string;
      readonly log: Log;
      readonly watcher: Watcher;
    },
  ) {}

  /** While it is up, or hangs. */
  get pid(): number | null {
    return this.state === 'down' ? null : (this.#process?.pid ?? null);
  }
  get files(): string {
    return path.join(this.setup.cache, `adapters-${this.id}`);
  }
  get #fullDisk(): string {
    return path.join(this.setup.cache, 'full');
  }

  async start(skewMs = 0): Promise<void> {
    const { args, keys, log, watcher } = this.setup;
    for (let tries = 1; ; tries++)
      try {
        const started = await startOrigin({
          args: [...args, '--origin-id', this.id, '--cache', this.setup.cache],
          env: {
            GRAFT_ORIGIN_KEYS: keys,
            NODE_OPTIONS: `--import=${PRELOAD}`,
            CHAOS_FULL_DISK: this.#fullDisk,
            CHAOS_CLOCK_MS: String(skewMs),
          },
          onLog: log.write,
        });
        this.#process = started;
        this.#expected = false;
        this.state = 'up';
        void started.failed.then((why) => {
          this.state = 'down';
          if (this.#process === started && !this.#expected) watcher.onDeath(this.id, why);
        });
        return;
      } catch (error) {
        watcher.onDeath(this.id, error instanceof Error ? error.message : String(error));
        if (tries === 3) throw error;
      }
  }

  async restart(skewMs = 0): Promise<void> {
    await this.start(skewMs);
    this.setup.watcher.onRestart();
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#process !== null) process.kill(this.#process.pid, signal);
    if (signal === 'SIGSTOP') this.state = 'hung';
    if (signal === 'SIGCONT') this.state = 'up';
  }

  /** @returns once it is gone. */
  async end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const ended = this.#process?.failed;
    this.#expected = true;
    this.state = 'down';
    this.signal(signal);
    if ((await Promise.race([ended, isLate()])) === LATE) {
      this.setup.watcher.onDeath(this.id, didNotEnd(signal));
      this.signal('SIGKILL');
      await ended;
    }
  }

  async fillDisk(full: boolean): Promise<void> {
    if (!full) return rm(this.#fullDisk, { force: true });
    await writeFile(this.#fullDisk, '');
    // Otherwise nothing has to be written for a while.
    for (const name of await this.#files()) await rm(path.join(this.files, name), { force: true });
  }

  async #files(): Promise<string[]> {
    const names = await readdir(this.files).catch(() => []);
    return names.filter((name) => /^[0-9a-f]{64}$/.test(name));
  }

  /** @returns what was done to how many files; null = there were none. */
  async damageFiles(pick: number): Promise<string | null> {
    const names = await this.#files();
    const way = picked(['removed', 'cut short', 'flipped'] as const, (pick * 1_000) % 1);
    let damaged = 0;
    for (const name of names.slice(Math.floor(pick * names.length)))
      try {
        const file = path.join(this.files, name);
        const bytes = await readFile(file);
        if (way === 'removed') await rm(file);
        else if (way === 'cut short') await truncate(file, Math.floor(bytes.length / 2));
        else {
          const at = Math.floor(((pick * 7_919) % 1) * bytes.length);
          bytes[at] = (bytes[at] as number) ^ 0x10;
          await writeFile(file, bytes);
        }
        damaged += 1;
      } catch {
        // The origin has removed it meanwhile.
      }
    return damaged === 0 ? null : `${damaged} of ${names.length} files ${way}`;
  }

  async stop(): Promise<void> {
    this.#expected = true;
    await this.fillDisk(false);
    if (this.state !== 'down') this.signal('SIGCONT');
    await this.#process?.stop();
    await this.proxy.stop();
    await this.setup.log.close();
  }
}

/** The edge, which may be started again and again on the same port and state. */
export class EdgeSeat {
  state: 'up' | 'down' = 'down';
  /** When it was struck, until when it was up again; `performance.now()`. */
  readonly #outages: { from: number; until: number }[] = [];
  #child: ChildProcess | null = null;
  #workerd: number | null = null;
  #ended: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly setup: EdgeSetup,
    private readonly log: Log,
    private readonly watcher: Watcher,
  ) {}

  get url(): string {
    return `http://${LOOPBACK}:${this.setup.port}`;
  }

  wasStruck(from: number, until: number): boolean {
    return this.#outages.some((outage) => outage.from <= until && outage.until >= from);
  }

  async start(): Promise<void> {
    const tsx = createRequire(path.join(ROOT, 'package.json')).resolve('tsx');
    const child = spawn(
      process.execPath,
      [...endsWithUs(), '--import', pathToFileURL(tsx).href, EDGE_PROGRAM, JSON.stringify(this.setup)],
      // A group of its own: Ctrl-C reaches only us.
      { cwd: ROOT, stdio: ['ignore', 'pipe', 'pipe', 'ipc'], detached: true },
    );
    for (const stream of [child.stdout, child.stderr])
      if (stream !== null) createInterface({ input: stream }).on('line', this.log.write);
    this.#child = child;
    this.#ended = once(child, 'exit');
    const ready = await Promise.race([this.#hears('ready'), this.#ended.then(() => null)]);
    if (ready?.event !== 'ready') throw new Error('the edge did not start; see edge.log');
    this.#workerd = ready.workerd;
    this.state = 'up';
    const outage = this.#outages.at(-1);
    if (outage !== undefined) outage.until = performance.now();
    child.once('exit', () => {
      if (this.state !== 'up') return;
      this.state = 'down';
      this.#outages.push({ from: performance.now(), until: Infinity });
      this.watcher.onDeath('edge', 'it ended; see edge.log');
    });
  }

  async restart(): Promise<void> {
    await this.start();
    this.watcher.onRestart();
  }

  /** @param victim of SIGKILL; workerd's end also ends the program. @returns once it is gone. */
  async end(signal: 'SIGKILL' | 'SIGTERM', victim: 'program' | 'workerd' = 'program'): Promise<void> {
    this.state = 'down';
    this.#outages.push({ from: performance.now(), until: Infinity });
    if (victim === 'workerd' && this.#workerd !== null) process.kill(this.#workerd, signal);
    else this.#child?.kill(signal);
    if ((await Promise.race([this.#ended, isLate()])) === LATE) {
      this.watcher.onDeath('edge', didNotEnd(signal));
      this.#child?.kill('SIGKILL');
      await this.#ended;
    }
    // The shell that kills workerd with its parent needs a moment.
    for (; this.#workerd !== null && isAlive(this.#workerd);) await sleep(20);
  }

  /** @returns what was damaged; null = nothing. */
  async damage(order: DamageOrder): Promise<string | null> {
    const heard = this.#hears('damaged');
    this.#child?.send(order);
    const event = await Promise.race([heard, this.#ended.then(() => null)]);
    return event?.event === 'damaged' ? event.what : null;
  }

  #hears(wanted: EdgeEvent['event']): Promise<EdgeEvent> {
    return new Promise((resolve) => {
      const hear = (event: EdgeEvent) => {
        if (event.event !== wanted) return;
        this.#child?.off('message', hear);
        resolve(event);
      };
      this.#child?.on('message', hear);
    });
  }

  async stop(): Promise<void> {
    if (this.state === 'up') await this.end('SIGTERM');
    await this.log.close();
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

export interface Fleet {
  readonly edge: EdgeSeat;
  readonly origins: readonly OriginSeat[];
  /** The operator's. */
  readonly adminKey: string;
  stop(): Promise<void>;
}

/**
 * @param params.folder gets state, caches and, in `log/`, logs.
 * @param params.flags of the origins, in turn.
 * @param params.schedulePauseMs of the edge; default: as in `graft edge`.
 */
export async function startFleet(params: {
  folder: string;
  base: string;
  origins: number;
  watcher: Watcher;
  flags?: readonly (readonly string[])[];
  schedulePauseMs?: number;
}): Promise<Fleet> {
  const { folder, base, origins: count, watcher, flags: own = NARROW, schedulePauseMs } = params;
  const logs = path.join(folder, 'log');
  await mkdir(logs, { recursive: true });
  const { worker, adminKey } = await makeSecrets(new Date());
  const given: number[] = [];
  const freePort = async () => {
    const port = await needFreePort({ port: 0, what: 'chaos', flag: '--port', given });
    given.push(port);
    return port;
  };
  const stops: (() => Promise<void>)[] = [];
  const stop = async () => {
    for (const one of stops.splice(0).reverse()) await one();
  };
  try {
    const origins: OriginSeat[] = [];
    for (let i = 0; i < count; i++) {
      const id = `origin-${i + 1}`;
      const port = await freePort();
      const cache = path.join(folder, id);
      await mkdir(cache);
      const flags = [...SAME_LOGITS, '--slots', '8', ...(own[i % own.length] ?? [])];
      const seat = new OriginSeat(id, await startCuttingProxy(`http://${LOOPBACK}:${port}`), {
        args: ['--port', String(port), '--base', base, ...flags],
        keys: worker.GRAFT_ORIGIN_KEYS,
        cache,
        log: openLog(path.join(logs, `${id}.log`), watcher),
        watcher,
      });
      stops.push(() => seat.stop());
      await seat.start();
      origins.push(seat);
    }
    const configured = origins.map(({ id, proxy }) => ({ id, url: proxy.url }));
    const setup: EdgeSetup = {
      port: await freePort(),
      stateFolder: path.join(folder, '.wrangler/state'),
      bindings: { ...worker, ORIGINS: JSON.stringify(configured) },
      ...(schedulePauseMs === undefined ? {} : { schedulePauseMs }),
    };
    const edge = new EdgeSeat(setup, openLog(path.join(logs, 'edge.log'), watcher), watcher);
    stops.push(() => edge.stop());
    await edge.start();
    return { edge, origins, adminKey, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** How long an edge may take to be up again, and how often that is looked at. */
const EDGE_START_MS = 15_000;
const EDGE_LOOK_MS = 100;
/** Bytes after which a network breaks: most within an answer. */
const cutAfter = (pick: number): number => Math.floor(20_000 * pick ** 3);

/**
 * Carries out a blow and what ends it.
 * @param params.onStruck called with a line about it once it has fallen; null = nobody was up.
 * @param params.repair what the operator does about damaged values.
 * @param params.hold waits until the blow's end.
 */
export async function strike(
  blow: Blow,
  params: {
    fleet: Fleet;
    onStruck: (what: string | null) => void;
    repair: () => Promise<void>;
    hold: (ms: number) => Promise<unknown>;
  },
): Promise<void> {
  const { fleet, onStruck, repair, hold } = params;
  const { kind, holdMs, pick } = blow;
  const { edge, origins } = fleet;
  const ms = `${holdMs} ms`;
  if (kind === 'kill-edge' || kind === 'end-edge') {
    if (edge.state !== 'up') return onStruck(null);
    const victim = pick < 0.5 ? 'workerd' : 'program';
    const ended = kind === 'kill-edge' ? edge.end('SIGKILL', victim) : edge.end('SIGTERM');
    onStruck(
      `${kind === 'kill-edge' ? `kill -9 of the edge's ${victim}` : 'SIGTERM of the edge'}, back after ${ms}`,
    );
    await ended;
    await hold(holdMs);
    return edge.restart();
  }
  if (kind === 'damage-kv') {
    // An edge that was struck before is waited for: what it remembers is gone, and KV is all that it has.
    for (let waited = 0; edge.state !== 'up' && waited < EDGE_START_MS; waited += EDGE_LOOK_MS)
      await hold(EDGE_LOOK_MS);
    const what = edge.state === 'up' ? await edge.damage({ pick }) : null;
    onStruck(what === null ? null : `${what}, repaired after ${ms}`);
    await hold(holdMs);
    return what === null ? undefined : repair();
  }

  // Those of other blows are left to them, but for a hanging one, which may be killed.
  const isFree = (seat: OriginSeat): boolean =>
    (seat.blow === null && seat.state === 'up') || (kind === 'kill-origin' && seat.state === 'hung');
  const order = origins.map((_, i) => origins[(blow.origin + i) % origins.length] as OriginSeat);
  const seat = order.find(isFree);
  if (seat === undefined) return onStruck(null);
  seat.blow = blow;
  try {
    switch (kind) {
      case 'kill-origin':
        onStruck(`kill -9 of ${seat.id}${seat.state === 'hung' ? ', which hung' : ''}, back after ${ms}`);
        await seat.end('SIGKILL');
        await hold(holdMs);
        return await seat.restart();
      case 'end-origin':
        onStruck(`SIGTERM of ${seat.id}, back after ${ms}`);
        await seat.end('SIGTERM');
        await hold(holdMs);
        return await seat.restart();
      case 'hang-origin':
        onStruck(`SIGSTOP of ${seat.id} for ${ms}`);
        seat.signal('SIGSTOP');
        await hold(holdMs);
        if (seat.blow === blow) seat.signal('SIGCONT');
        return;
      case 'skew-origin': {
        const skewMs = skewOf(pick);
        onStruck(`kill -9 of ${seat.id}, its clock wrong by ${skewMs} ms for ${ms}`);
        await seat.end('SIGKILL');
        await seat.restart(skewMs);
        await hold(holdMs);
        await seat.end('SIGKILL');
        return await seat.restart();
      }
      case 'fill-disk':
        onStruck(`the disk of ${seat.id} is full for ${ms}, and its files are gone`);
        await seat.fillDisk(true);
        await hold(holdMs);
        return await seat.fillDisk(false);
      case 'damage-files': {
        const what = await seat.damageFiles(pick);
        return onStruck(what === null ? null : `${seat.id}: ${what}`);
      }
      case 'cut-network': {
        const bytes = cutAfter(pick);
        onStruck(`connections to ${seat.id} break after ${bytes} bytes, for ${ms}`);
        seat.proxy.cutAfter(bytes);
        await hold(holdMs);
        return seat.proxy.cutAfter(null);
      }
    }
  } finally {
    if (seat.blow === blow) seat.blow = null;
  }
}
