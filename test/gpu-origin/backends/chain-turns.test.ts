import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChainTurns, TURN_TOKENS } from '../../../gpu-origin/backends/vllm/vllm-engine.ts';

interface Request {
  name: string;
  chainId: string;
  tenant: string;
  /** Tokens of its answer that are still to come. */
  left: number;
}

/** Each step gives every running request a token, as a batch does. @returns when each has begun, in steps. */
function play(
  turns: ChainTurns<Request>,
  requests: readonly Request[],
  onStep: (running: readonly Request[]) => void = () => undefined,
): Map<string, number> {
  const begun = new Map<string, number>();
  const running = new Set<Request>();
  for (const request of requests) turns.add(request);
  for (let step = 0; turns.waiting + running.size > 0; step += 1) {
    for (let run = turns.next(); run !== null; run = turns.next()) {
      running.add(run);
      if (!begun.has(run.name)) begun.set(run.name, step);
    }
    if (running.size === 0) throw new Error('nothing runs, and something waits');
    onStep([...running]);
    for (const run of [...running]) {
      run.left -= 1;
      const aside = turns.token(run);
      if (run.left > 0 && !aside) continue;
      running.delete(run);
      turns.leave(run);
      if (run.left > 0) turns.add(run);
    }
  }
  return begun;
}

const request = (name: string, more: Partial<Request> = {}): Request => ({
  ...{ name, chainId: name, tenant: name, left: TURN_TOKENS },
  ...more,
});

describe('turns of chains', () => {
  it('4 places, 40 chains, a turn each: none waits for more than (waiting chains / 4 + 1) turns', () => {
    const turns = new ChainTurns<Request>({ chains: 4, runs: 64 });
    const begun = play(
      turns,
      Array.from({ length: 40 }, (_, at) => request(`c${at}`)),
    );
    expect(Math.max(...begun.values())).toBeLessThanOrEqual((36 / 4 + 1) * TURN_TOKENS);
    expect(begun.size).toBe(40);
  });

  it('an endless answer is preempted after its turn, and continues later', () => {
    const turns = new ChainTurns<Request>({ chains: 1, runs: 64 });
    const long = request('long', { left: 10 * TURN_TOKENS });
    const begun = play(turns, [long, request('short', { left: 5 })]);
    expect(begun.get('short')).toBe(TURN_TOKENS);
    expect(long.left).toBe(0);
  });

  it('consecutive short requests of one chain share one turn', () => {
    const turns = new ChainTurns<Request>({ chains: 1, runs: 1 });
    const many = Array.from({ length: 60 }, (_, at) =>
      request(`m${at}`, { chainId: 'much', tenant: 'much', left: 10 }),
    );
    const begun = play(turns, [...many, request('other', { left: 10 })]);
    expect(begun.get('other')).toBeLessThanOrEqual(TURN_TOKENS + 10);
  });

  it('a single chain is never preempted', () => {
    const turns = new ChainTurns<Request>({ chains: 1, runs: 8 });
    let steps = 0;
    play(turns, [request('alone', { left: 5 * TURN_TOKENS })], () => (steps += 1));
    expect(steps).toBe(5 * TURN_TOKENS);
  });

  it('the tenant with the fewest tokens goes first', () => {
    const turns = new ChainTurns<Request>({ chains: 1, runs: 1 });
    const begun = play(turns, [
      ...Array.from({ length: 20 }, (_, at) => request(`big${at}`, { tenant: 'big', left: 100 })),
      request('small', { tenant: 'small', left: 10 }),
    ]);
    expect(begun.get('small')).toBe(100);
  });

  it('never runs more chains or requests than allowed, and ends all', () => {
    const chain = fc.constantFrom('', 'a', 'b', 'c', 'd', 'e');
    const one = fc.record({ chainId: chain, tenant: fc.constantFrom('x', 'y', 'z'), left: fc.nat(600) });
    fc.assert(
      fc.property(
        fc.array(one, { maxLength: 30 }),
        fc.integer({ min: 1, max: 3 }),
        fc.integer({ min: 1, max: 5 }),
        (all, chains, runs) => {
          const requests = all.map((each, at) => ({ ...each, name: `r${at}`, left: each.left + 1 }));
          play(new ChainTurns<Request>({ chains, runs }), requests, (running) => {
            if (running.length > runs) throw new Error(`${running.length} runs at once`);
            const ids = new Set(running.map(({ chainId }) => chainId));
            ids.delete('');
            if (ids.size > chains) throw new Error(`${ids.size} chains at once`);
          });
          expect(requests.every(({ left }) => left === 0)).toBe(true);
        },
      ),
      { seed: 20_261_126, numRuns: 50 },
    );
  });
});
