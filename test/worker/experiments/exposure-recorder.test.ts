import { afterEach, beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest';
import type { ExperimentEvent } from '../../../worker/experiments/ports.ts';
import { createExposureRecorder } from '../../../worker/experiments/parts.ts';
import { sampleEvent } from '../../contracts/experiment-tallies.ts';
import { createFakeTallies, type FakeTallies } from '../../fakes/fake-tallies.ts';

let tallies: FakeTallies;
let add: MockInstance<FakeTallies['add']>;
let really: FakeTallies['add'];
let said: MockInstance;
let waiting: (() => void)[];
let work: Promise<unknown>[];
let now: number;
let record: (event?: Partial<ExperimentEvent>) => void;

/** Wakes what sleeps, and lets it go on, until nothing moves. */
async function settle(): Promise<void> {
  for (let turn = 0; turn < 60; turn += 1) {
    for (const resolve of waiting.splice(0)) resolve();
    await Promise.resolve();
  }
}
const units = async (experiment = 'e') => (await tallies.snapshot(experiment, 's')).units['control'] ?? 0;
const lines = () => said.mock.calls.map(([line]) => JSON.parse(String(line)) as Record<string, unknown>);

beforeEach(() => {
  tallies = createFakeTallies();
  really = tallies.add.bind(tallies);
  add = vi.spyOn(tallies, 'add');
  said = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  waiting = [];
  work = [];
  now = 1_000_000;
  let ids = 0;
  const sink = createExposureRecorder({
    tallies,
    now: () => now,
    sleep: () => new Promise((resolve) => waiting.push(resolve)),
    newId: () => `batch-${(ids += 1)}`,
    ...{ flushMs: 1_000, maxEvents: 10, maxUnsentEvents: 30, tries: 3 },
  });
  record = (event = {}) => sink.record(sampleEvent(event), (promise) => void work.push(promise));
});
afterEach(() => vi.restoreAllMocks());

describe('recording exposures', () => {
  it('sends what came within a moment as one batch an experiment', async () => {
    for (let i = 0; i < 8; i += 1) record({ unit: `u${i}`, experiment: i < 5 ? 'e' : 'f' });
    expect(work).toHaveLength(1);
    await settle();
    expect(add.mock.calls.map(([experiment, { events }]) => [experiment, events.length])).toEqual([
      ['e', 5],
      ['f', 3],
    ]);
    expect([await units('e'), await units('f')]).toEqual([5, 3]);
  });

  it('never sends more than fits', async () => {
    for (let i = 0; i < 25; i += 1) record({ unit: `u${i}` });
    await settle();
    expect(add.mock.calls.map(([, { events }]) => events.length)).toEqual([10, 10, 5]);
    expect(await units()).toBe(25);
  });

  it('counts once what was sent again because its answer was lost', async () => {
    tallies.loseAnswers = 2;
    record();
    record();
    await settle();
    expect(add.mock.calls.map(([, { id }]) => id)).toEqual(['batch-1', 'batch-1', 'batch-1']);
    const { metrics } = await tallies.snapshot('e', 's');
    expect(metrics['latency_ms']?.['control']).toMatchObject({ n: 1, sum: 100 });
  });

  it('keeps what was refused for the next flush, under its id', async () => {
    tallies.down = true;
    record();
    await settle();
    expect(lines()).toMatchObject([{ event: 'exposures_not_written', experiment: 'e', events: 1 }]);
    tallies.down = false;
    record({ unit: 'u2' });
    await settle();
    expect(add.mock.calls.map(([, { id }]) => id)).toEqual([...Array<string>(4).fill('batch-1'), 'batch-2']);
    expect(await units()).toBe(2);
  });

  it('lets no experiment wait for another one', async () => {
    add.mockImplementation((experiment, batch) =>
      experiment === 'e' ? new Promise(() => undefined) : really(experiment, batch),
    );
    record();
    record({ experiment: 'f' });
    await settle();
    expect(await units('f')).toBe(1);
  });

  it('gives up the oldest when too much waits, and says so', async () => {
    tallies.down = true;
    for (let i = 0; i < 45; i += 1) record({ unit: `u${i}` });
    await settle();
    expect(lines().filter(({ event }) => event === 'exposures_lost')).toMatchObject([
      { events: 10 },
      { events: 10 },
    ]);
    tallies.down = false;
    record({ unit: 'last' });
    await settle();
    expect(await units()).toBe(26);
  });

  it('begins another flush when one was cut off with its request', async () => {
    record();
    waiting.length = 0;
    now += 31_000;
    record({ unit: 'u2' });
    await settle();
    expect(await units()).toBe(2);
  });
});
