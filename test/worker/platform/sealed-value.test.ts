import { describe, expect, it } from 'vitest';
import { createSealer } from '../../../worker/platform/kv-cache.ts';

const secret = (byte: number) => new Uint8Array(32).fill(byte);
const [OLD, NEW] = [secret(1), secret(2)];

describe('createSealer', () => {
  it('opens what it sealed, for that key alone', async () => {
    const sealer = createSealer(OLD);
    const text = await sealer.seal('name:a', { x: 1 });
    expect(await sealer.open('name:a', text)).toEqual({ value: { x: 1 } });
    expect(await sealer.open('name:b', text)).toBeNull();
    expect(await createSealer(NEW).open('name:a', text)).toBeNull();
  });

  it('is rotated in steps, of which any two beside each other understand one another', async () => {
    const steps = [createSealer(OLD), createSealer(OLD, [NEW]), createSealer(NEW, [OLD]), createSealer(NEW)];
    for (const [i, one] of steps.entries())
      // Isolates of two deployments serve beside each other for a while.
      for (const other of steps.slice(Math.max(0, i - 1), i + 2))
        expect(await other.open('k', await one.seal('k', 'v'))).toEqual({ value: 'v' });
  });

  it('never seals with a secret that is only accepted', async () => {
    const text = await createSealer(NEW, [OLD]).seal('k', 'v');
    expect(await createSealer(OLD).open('k', text)).toBeNull();
    expect(await createSealer(NEW).open('k', text)).toEqual({ value: 'v' });
  });
});
