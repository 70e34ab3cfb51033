/** Limits of a lane's thread: by the CPU time that it has had, on a clock that is the test's. */
import { afterEach, describe, expect, it } from 'vitest';
import {
  COMPILE_LIMIT_MS,
  type LaneClock,
  STEP_LIMIT_MS,
  threadLanes,
  WALL_LIMIT_MS,
} from '../../../gpu-origin/grammar/thread-lane.ts';
import { type Lane, QUICK_MS } from '../../../gpu-origin/grammar/ports.ts';
import { freeGrammar } from './fake-lane.ts';

class FakeLaneClock implements LaneClock {
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

  /** So much time goes by, of which the thread has had so much; the lane looks at it before and after. */
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

const lanes: Lane[] = [];
afterEach(async () => {
  for (const lane of lanes.splice(0)) await lane.stop();
});

async function laneOn(clock: FakeLaneClock): Promise<Lane> {
  // Texts are enough here: answers come in a later turn of the event loop, however fast the thread is.
  const lane = await threadLanes(clock)({ tokens: null });
  lanes.push(lane);
  return lane;
}

const asked = freeGrammar('root ::= "a"');

describe('a grammar that is compiled', () => {
  it('has ten seconds of CPU time, however long a busy machine takes to give them', async () => {
    const clock = new FakeLaneClock();
    const lane = await laneOn(clock);
    const patient = lane.compile(1, asked);
    clock.pass({ wall: WALL_LIMIT_MS, cpu: COMPILE_LIMIT_MS });
    expect(await patient).toMatchObject({ kind: 'compiled' });
    const endless = lane.compile(2, asked);
    clock.pass({ wall: COMPILE_LIMIT_MS + 2, cpu: COMPILE_LIMIT_MS + 1 });
    await expect(endless).rejects.toMatchObject({ name: 'LaneLost', reason: 'work' });
  });

  it('is given up as starved when the machine has no time for it', async () => {
    const clock = new FakeLaneClock();
    const lane = await laneOn(clock);
    const starved = lane.compile(1, asked);
    clock.pass({ wall: WALL_LIMIT_MS + 1, cpu: 500 });
    await expect(starved).rejects.toMatchObject({ reason: 'starved' });
  });

  it('is given up as starved by the time alone, where no CPU time is known', async () => {
    const clock = new FakeLaneClock();
    const lane = await laneOn(clock);
    clock.cpu = null;
    const starved = lane.compile(1, asked);
    clock.pass({ wall: COMPILE_LIMIT_MS + 1, cpu: 0 });
    await expect(starved).rejects.toMatchObject({ reason: 'starved' });
  });

  it('is said to take long after a second of CPU time, once', async () => {
    const clock = new FakeLaneClock();
    const lane = await laneOn(clock);
    let long = 0;
    const compiled = lane.compile(1, asked, () => (long += 1));
    clock.pass({ wall: 20 * QUICK_MS, cpu: QUICK_MS });
    expect(long).toBe(0);
    clock.pass({ wall: 1, cpu: 1 });
    clock.pass({ wall: 500, cpu: 500 });
    expect(long).toBe(1);
    expect(await compiled).toMatchObject({ kind: 'compiled' });
  });

  it('is not charged for what was before it in the thread', async () => {
    const clock = new FakeLaneClock();
    const lane = await laneOn(clock);
    const first = lane.compile(1, asked);
    const second = lane.compile(2, asked);
    clock.pass({ wall: 9_000, cpu: 9_000 });
    expect(await first).toMatchObject({ kind: 'compiled' });
    expect(await second).toMatchObject({ kind: 'compiled' });
    const third = lane.compile(3, asked);
    clock.pass({ wall: 9_000, cpu: 9_000 });
    expect(await third).toMatchObject({ kind: 'compiled' });
  });

  it('costs its lane nothing where no grammar can be made of it', async () => {
    const lane = await laneOn(new FakeLaneClock());
    expect(await lane.compile(1, freeGrammar('root ::= s\ns ::= s s | ""'))).toMatchObject({
      kind: 'refused',
      error: { code: 'invalid_request', param: 'guided_grammar' },
    });
    expect(await lane.compile(2, asked)).toMatchObject({ kind: 'compiled' });
  });
});

it('masks have five seconds of CPU time', async () => {
  const clock = new FakeLaneClock();
  const lane = await laneOn(clock);
  const endless = lane.step([]);
  clock.pass({ wall: STEP_LIMIT_MS + 1, cpu: STEP_LIMIT_MS + 1 });
  await expect(endless).rejects.toMatchObject({ reason: 'work' });
});
