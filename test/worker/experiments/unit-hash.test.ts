import { describe, expect, it } from 'vitest';
import { createUnitHasher } from '../../../worker/experiments/assign.ts';

const SECRET = new Uint8Array(32).fill(7);
const unit = { experiment: 'support/intent', seed: 'one', unit: 'acme/user/alice' };

describe('createUnitHasher', () => {
  it('gives 22 characters, the same ones every time and everywhere', async () => {
    const [one, other] = [createUnitHasher(SECRET), createUnitHasher(Uint8Array.from(SECRET))];
    // Made by Python's hmac and json.
    expect(await one(unit)).toBe('IUDWnbmc-ve0y2H1FuLMxA');
    expect(await one(unit)).toBe(await other(unit));
  });

  it('is another one for another unit, seed, experiment or secret', async () => {
    const hash = createUnitHasher(SECRET);
    const all = await Promise.all([
      hash(unit),
      hash({ ...unit, unit: 'acme/user/bob' }),
      hash({ ...unit, seed: 'two' }),
      hash({ ...unit, experiment: 'support/other' }),
      createUnitHasher(new Uint8Array(32).fill(8))(unit),
      // Where one field ends and the next begins counts.
      hash({ experiment: 'support/intento', seed: 'ne', unit: 'acme/user/alice' }),
    ]);
    expect(new Set(all).size).toBe(all.length);
  });
});
