/** A checkpoint comes back as it was, or is refused. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { AdamW } from '../../../gpu-origin/training/adamw.ts';
import {
  readCheckpoint,
  type TrainingIdentity,
  writeCheckpoint,
} from '../../../gpu-origin/training/checkpoint.ts';
import { emptyParameter, type Parameter } from '../../../gpu-origin/training/frozen-base.ts';
import type { RunState } from '../../../gpu-origin/training/training-run.ts';
import { seeded } from '../../fixtures/tiny-base.ts';
import { TINY_REQUEST } from '../../fixtures/training-program.ts';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-checkpoint-'));
  path = join(folder, 'checkpoint.safetensors');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const IDENTITY: TrainingIdentity = {
  rows: 'a'.repeat(64),
  base: 'b'.repeat(64),
  weights: 'int8',
  chain: [{ digest: 'c'.repeat(64), scale: 0.5 }],
  settings: { ...TINY_REQUEST, rate: 1e-3, batch: 4 },
};
const STATE: RunState = {
  step: 3,
  tokens: 71,
  seconds: 1.25,
  curve: [
    [1, 3.000000001, null],
    [2, 2.5, 0.1],
    [3, 1e-9, null],
  ],
  before: { loss: 4.1, exact: 0, rows: 2 },
};

/** Parameters of one linear, with an optimizer that has made `steps` updates. */
function trained(steps: number, rank = 2): { parameters: Parameter[]; optimizer: AdamW } {
  const linear = { name: 'model.layers.0.self_attn.q_proj', kinds: ['q'] } as const;
  const parameters = (['A', 'B'] as const).map((side) =>
    emptyParameter({ layer: 0, linear, side, rank, width: side === 'A' ? 3 : 5 }),
  );
  const optimizer = new AdamW(parameters);
  const random = seeded(1);
  for (let step = 0; step < steps; step++) {
    for (const { gradient } of parameters) gradient.forEach((_, at) => (gradient[at] = random()));
    optimizer.update(1e-2);
  }
  return { parameters, optimizer };
}

const save = (): Buffer => {
  writeCheckpoint(path, { identity: IDENTITY, state: STATE, ...trained(3) });
  return readFileSync(path);
};

it('comes back to the bit', () => {
  save();
  const [wanted, found] = [trained(3), trained(0)];
  expect(readCheckpoint(path, IDENTITY, found)).toEqual({ ok: true, state: STATE });
  expect(found).toEqual(wanted);
  expect(found.optimizer.step).toBe(3);
  expect(readdirSync(folder)).toEqual(['checkpoint.safetensors']);
});

it('is damaged if a byte differs or is missing, and then changes nothing', () => {
  const good = save();
  const before = trained(1);
  const expectDamaged = (): void => {
    const own = trained(1);
    expect(readCheckpoint(path, IDENTITY, own)).toMatchObject({ ok: false, code: 'checkpoint_damaged' });
    expect(own).toEqual(before);
  };
  // Every byte, or every length, of a file of some kilobytes takes a moment only.
  fc.assert(
    fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 255 }), (at, by) => {
      const bad = Buffer.from(good);
      bad[at] = bad[at]! ^ by;
      writeFileSync(path, bad);
      expectDamaged();
    }),
    { numRuns: 200 },
  );
  writeFileSync(path, good);
  for (let length = good.length - 1; length >= 0; length -= length > 64 ? 13 : 1) {
    truncateSync(path, length);
    expectDamaged();
  }
  writeFileSync(path, Buffer.concat([good, Buffer.of(0)]));
  expectDamaged();
});

it.each<[Partial<TrainingIdentity>, string]>([
  [{ rows: 'd'.repeat(64) }, 'other rows'],
  [{ base: 'd'.repeat(64) }, 'another base'],
  [{ weights: 'f32' }, 'other weights'],
  [{ chain: [] }, 'another chain'],
  [{ chain: [{ ...IDENTITY.chain[0]!, scale: 1 }] }, 'another chain'],
  [{ settings: { ...IDENTITY.settings, seed: 5, targets: ['q'] } }, 'other settings (targets, seed)'],
  [{ base: 'd'.repeat(64), weights: 'f32' }, 'another base and other weights'],
])('belongs to one training: %j differs', (other, words) => {
  save();
  expect(readCheckpoint(path, { ...IDENTITY, ...other }, trained(0))).toEqual({
    ok: false,
    code: 'checkpoint_mismatch',
    problem: `it belongs to a training with ${words}`,
  });
});

it('does not fit parameters of another shape', () => {
  save();
  expect(readCheckpoint(path, IDENTITY, trained(0, 4))).toMatchObject({
    ok: false,
    code: 'checkpoint_mismatch',
    problem: 'its model.layers.0.self_attn.q_proj.A has another shape',
  });
});

it('has room for the curve of the longest training', () => {
  const curve = Array.from({ length: 1_000_000 }, (_, at): RunState['curve'][number] => [
    at + 1,
    Math.random() * 10,
    at % 100_000 === 0 ? Math.random() : null,
  ]);
  const state = { ...STATE, step: curve.length, curve };
  writeCheckpoint(path, { identity: IDENTITY, state, ...trained(1) });
  const found = readCheckpoint(path, IDENTITY, trained(0));
  if (!found.ok) throw new Error(found.problem);
  expect(found.state.curve.length).toBe(curve.length);
  expect(found.state.curve.every((point, at) => point.every((one, i) => one === curve[at]![i]))).toBe(true);
});
