/** Limits of a worker's thread: by the CPU time that it has had, on a clock that is the test's. */
import { afterEach, describe, expect, it } from 'vitest';
import {
  COMPILE_LIMIT_MS,
  type ThreadClock,
  STEP_LIMIT_MS,
  threadWorkers,
  WALL_LIMIT_MS,
} from '../../../gpu-origin/grammar/thread-worker.ts';
import { type GrammarWorker, QUICK_MS } from '../../../gpu-origin/grammar/ports.ts';
import { freeGrammar } from './fake-grammar-worker.ts';

class FakeThreadClock implements ThreadClock {
  time = 0;
  cpu: number | null = 0;
  readonly #looks = new Set<() => void>();

  now(): number {
    return this.time;
  }

  cpuMs(): number | null {
    return this.cpu;
  }

  every(_ms: number, callback: () => void): () => void {
    this.#looks.add(callback);
    return () => this.#looks.delete(callback);
  }

  /** So much time goes by, of which the thread has had so much; the worker looks at it before and after. */
  pass({ wall, cpu }: { wall: number; cpu: number }): void {
    const look = (): void => {
      for (const callback of [...this.#looks]) callback();
    };
    look();
    this.time += wall;
    if (this.cpu !== null) this.cpu += cpu;
    look();
  }
}

const workers: GrammarWorker[] = [];
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop();
});

async function workerOn(clock: FakeThreadClock): Promise<GrammarWorker> {
  // Texts are enough here: answers come in a later turn of the event loop, however fast the thread is.
  const worker = await threadWorkers(clock)({ tokens: null });
  workers.push(worker);
  return worker;
}

const asked = freeGrammar('root ::= "a"');

describe('a grammar that is compiled', () => {
  it('has ten seconds of CPU time, however long a busy machine takes to give them', async () => {
    const clock = new FakeThreadClock();
    const worker = await workerOn(clock);
    const patient = worker.compile(1, asked);
    clock.pass({ wall: WALL_LIMIT_MS, cpu: COMPILE_LIMIT_MS });
    expect(await patient).toMatchObject({ kind: 'compiled' });
    const endless = worker.compile(2, asked);
    clock.pass({ wall: COMPILE_LIMIT_MS + 2, cpu: COMPILE_LIMIT_MS + 1 });
    await expect(endless).rejects.toMatchObject({ name: 'GrammarWorkerLost', reason: 'work' });
  });

  it('is given up as starved when the machine has no time for it', async () => {
    const clock = new FakeThreadClock();
    const worker = await workerOn(clock);
    const starved = worker.compile(1, asked);
    clock.pass({ wall: WALL_LIMIT_MS + 1, cpu: 500 });
    await expect(starved).rejects.toMatchObject({ reason: 'starved' });
  });

  it('is given up as starved by the time alone, where no CPU time is known', async () => {
    const clock = new FakeThreadClock();
    const worker = await workerOn(clock);
    clock.cpu = null;
    const starved = worker.compile(1, asked);
    clock.pass({ wall: COMPILE_LIMIT_MS + 1, cpu: 0 });
    await expect(starved).rejects.toMatchObject({ reason: 'starved' });
  });

  it('is said to take long after a second of CPU time, once', async () => {
    const clock = new FakeThreadClock();
    const worker = await workerOn(clock);
    let long = 0;
    const compiled = worker.compile(1, asked, () => (long += 1));
    clock.pass({ wall: 20 * QUICK_MS, cpu: QUICK_MS });
    expect(long).toBe(0);
    clock.pass({ wall: 1, cpu: 1 });
    clock.pass({ wall: 500, cpu: 500 });
    expect(long).toBe(1);
    expect(await compiled).toMatchObject({ kind: 'compiled' });
  });

  it('is not charged for what was before it in the thread', async () => {
    const clock = new FakeThreadClock();
    const worker = await workerOn(clock);
    const first = worker.compile(1, asked);
    const second = worker.compile(2, asked);
    clock.pass({ wall: 9_000, cpu: 9_000 });
    expect(await first).toMatchObject({ kind: 'compiled' });
    expect(await second).toMatchObject({ kind: 'compiled' });
    const third = worker.compile(3, asked);
    clock.pass({ wall: 9_000, cpu: 9_000 });
    expect(await third).toMatchObject({ kind: 'compiled' });
  });

  it('costs its worker nothing where no grammar can be made of it', async () => {
    const worker = await workerOn(new FakeThreadClock());
    expect(await worker.compile(1, freeGrammar('root ::= s\ns ::= s s | ""'))).toMatchObject({
      kind: 'refused',
      error: { code: 'invalid_request', param: 'guided_grammar' },
    });
    expect(await worker.compile(2, asked)).toMatchObject({ kind: 'compiled' });
  });
});

it('masks have five seconds of CPU time', async () => {
  const clock = new FakeThreadClock();
  const worker = await workerOn(clock);
  const endless = worker.step([]);
  clock.pass({ wall: STEP_LIMIT_MS + 1, cpu: STEP_LIMIT_MS + 1 });
  await expect(endless).rejects.toMatchObject({ reason: 'work' });
});
