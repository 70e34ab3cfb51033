/** An engine over the fake runner, with time and files in the test's hands. */
import { sha256Hex, type ChainEntry } from '../../../protocol/identity.ts';
import type { TokenBytes } from '../../../gpu-origin/generation/answer-text.ts';
import { seededRandom, GREEDY } from '../../../gpu-origin/generation/sampler.ts';
import {
  Engine,
  type EngineEvent,
  type EngineHandle,
  type EngineObserver,
  type EngineOptions,
  type EngineRequest,
  type FinalEvent,
} from '../../../gpu-origin/engine/engine.ts';
import type { AdapterSource, Clock } from '../../../gpu-origin/engine/ports.ts';
import { type FakeRunnerOptions, FakeRunner } from '../fake-runner.ts';

/** A letter for each token, so that texts show the tokens; token 0 is the end of a sequence. */
export const letters: TokenBytes = {
  bytes: (id) => new TextEncoder().encode(letterOf(id)),
  isSpecial: (id) => id === 0,
};
export const letterOf = (id: number): string => String.fromCodePoint(0x41 + id);

export class TestClock implements Clock {
  time = 0;
  readonly timers = new Set<{ at: number; callback: () => void }>();

  now(): number {
    return this.time;
  }

  timer(ms: number, callback: () => void): () => void {
    const timer = { at: this.time + ms, callback };
    this.timers.add(timer);
    return () => this.timers.delete(timer);
  }

  yield(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  advance(ms: number): void {
    this.time += ms;
    for (const timer of this.timers)
      if (timer.at <= this.time) {
        this.timers.delete(timer);
        timer.callback();
      }
  }
}

/** Files in memory. `null` bytes: held by `status`, gone at `read`. */
export class MemorySource implements AdapterSource {
  readonly files = new Map<string, Uint8Array<ArrayBuffer> | null | 'receiving'>();
  reads = 0;

  async status(digest: string): Promise<'held' | 'receiving' | 'missing'> {
    const file = this.files.get(digest);
    return file === undefined ? 'missing' : file === 'receiving' ? 'receiving' : 'held';
  }

  async read(digest: string): Promise<Uint8Array<ArrayBuffer> | null> {
    this.reads += 1;
    const file = this.files.get(digest);
    return file instanceof Uint8Array ? file : null;
  }
}

export const digestOf = (name: string): Promise<string> => sha256Hex(name);

export interface Rig {
  engine: Engine;
  runner: FakeRunner;
  clock: TestClock;
  source: MemorySource;
  /** Puts an adapter of this name on the disk. */
  adapter(name: string, scale?: number): Promise<ChainEntry>;
}

export function rig(
  options: { runner?: FakeRunnerOptions; observer?: EngineObserver } & Partial<
    Pick<
      EngineOptions,
      'maxQueue' | 'adapterBudgetBytes' | 'decodeStepsPerTurn' | 'tokens' | 'eosTokenIds' | 'masks'
    >
  > = {},
): Rig {
  const { runner: runnerOptions, ...engineOptions } = options;
  const runner = new FakeRunner(runnerOptions);
  const clock = new TestClock();
  const source = new MemorySource();
  const engine = new Engine({
    runner,
    source,
    clock,
    tokens: letters,
    eosTokenIds: [0],
    random: seededRandom(1),
    maxQueue: 1_000,
    adapterBudgetBytes: 1_000_000,
    ...engineOptions,
  });
  return {
    engine,
    runner,
    clock,
    source,
    adapter: async (name, scale = 1) => {
      const digest = await digestOf(name);
      source.files.set(digest, new TextEncoder().encode(name));
      return { digest, scale };
    },
  };
}

export function request(changes: Partial<EngineRequest> = {}): EngineRequest {
  return {
    id: 'r',
    tenant: 't',
    prompt: [1, 2, 3],
    chain: [],
    sampling: { ...GREEDY, maxTokens: 8, ignoreEos: true },
    promptLogprobs: null,
    budgetMs: null,
    ...changes,
  };
}

export interface Collected {
  events: EngineEvent[];
  text: string;
  /** Of the `tokens` events. */
  ids: number[];
  final: FinalEvent;
}

export async function collect(handle: EngineHandle): Promise<Collected> {
  const events: EngineEvent[] = [];
  for await (const event of handle.events) events.push(event);
  const final = events.at(-1);
  if (final?.kind !== 'end' && final?.kind !== 'error' && final?.kind !== 'aborted')
    throw new Error('the events have no end');
  const parts = events.filter((event) => event.kind === 'tokens');
  return {
    events,
    text: parts.map((part) => part.text).join(''),
    ids: parts.flatMap((part) => part.tokens.map((token) => token.id)),
    final,
  };
}

export async function start(engine: Engine, changes: Partial<EngineRequest> = {}): Promise<EngineHandle> {
  const added = await engine.add(request(changes));
  if (!added.ok) throw new Error(`refused: ${added.error.message}`);
  return added.value;
}

export const generate = async (engine: Engine, changes: Partial<EngineRequest> = {}): Promise<Collected> =>
  collect(await start(engine, changes));

/** Tokens of a greedy answer of 24, whatever would end it. */
export async function greedyAnswer(engine: Engine, changes: Partial<EngineRequest>): Promise<number[]> {
  const sampling = { ...GREEDY, maxTokens: 24, ignoreEos: true };
  const { final } = await generate(engine, { sampling, ...changes });
  if (final.kind !== 'end') throw new Error(`it ended with ${final.kind}`);
  return [...final.tokenIds];
}

/** Lets the engine run until `condition` holds. */
export async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 2_000_000; turn += 1) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('it did not come to that');
}

/** A promise and what settles it. */
export function gate(): { opened: Promise<void>; open: () => void; fail: (error: Error) => void } {
  let open = (): void => undefined;
  let fail: (error: Error) => void = () => undefined;
  const opened = new Promise<void>((resolve, reject) => {
    open = resolve;
    fail = reject;
  });
  return { opened, open, fail };
}
