/**
 * A training's state between two steps, in one file: safetensors, and behind them the sha256 of all before. A and B as
 * they are trained, without the scale, so that nothing is rounded on the way.
 */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { z } from 'zod';
import { elementsOf, parseSafetensors, type Tensor, writeSafetensors } from '../../adapters/index.ts';
import { ChainEntry } from '../../protocol/identity.ts';
import { TrainingSettings, type TrainingCurve } from '../../protocol/training.ts';
import type { AdamW } from './adamw.ts';
import type { Parameter } from './frozen-base.ts';
import type { RunState } from './training-run.ts';

/** What a training is about. A checkpoint of another one is refused. */
export const TrainingIdentity = z.strictObject({
  rows: z.string(),
  /** sha256 of the file of rows that are held out, if they have one of their own. */
  heldOut: z.string().optional(),
  base: z.string(),
  weights: z.string(),
  chain: z.array(ChainEntry),
  settings: TrainingSettings,
});
export type TrainingIdentity = z.infer<typeof TrainingIdentity>;

const HeldOut = z.strictObject({ loss: z.number(), exact: z.int(), rows: z.int() });

const Metadata = z.strictObject({
  version: z.literal(1),
  identity: TrainingIdentity,
  state: z.strictObject({
    step: z.int().min(0),
    tokens: z.int().min(0),
    seconds: z.number().min(0),
    before: HeldOut.nullable(),
  }),
});

const KEY = 'graft.training';
const CURVE = 'curve';
const DIGEST_BYTES = 32;

const sha256 = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

interface Trained {
  parameters: readonly Parameter[];
  optimizer: AdamW;
}

/** The arrays of a parameter, by their names in the file. */
const arraysOf = ({ parameters, optimizer }: Trained): [string, Float32Array<ArrayBuffer>][] =>
  parameters.flatMap(({ linear, side, values }, index): [string, Float32Array<ArrayBuffer>][] => {
    const name = `${linear.name}.${side}`;
    return [
      [name, values],
      [`${name}.m`, optimizer.m[index]!],
      [`${name}.v`, optimizer.v[index]!],
    ];
  });

/** A curve as numbers: not thinned out yet, it is too long for a header. NaN = no held-out loss. */
const toNumbers = (curve: TrainingCurve): Float64Array<ArrayBuffer> =>
  Float64Array.from(curve.flatMap(([step, loss, heldOut]) => [step, loss, heldOut ?? NaN]));

function fromNumbers(numbers: Float64Array): TrainingCurve {
  const curve: TrainingCurve = [];
  for (let at = 0; at < numbers.length; at += 3) {
    const [step, loss, heldOut] = numbers.subarray(at, at + 3) as unknown as [number, number, number];
    curve.push([step, loss, Number.isNaN(heldOut) ? null : heldOut]);
  }
  return curve;
}

/**
 * Writes it whole or not at all: to another name, then renamed; the one before stays until then.
 * @throws NodeJS.ErrnoException such as ENOSPC.
 */
export function writeCheckpoint(
  path: string,
  { identity, state: all, ...trained }: Trained & { identity: TrainingIdentity; state: RunState },
): void {
  const { curve, ...state } = all;
  const metadata = new Map([[KEY, JSON.stringify({ version: 1, identity, state })]]);
  const points = toNumbers(curve);
  const tensors = new Map<string, Tensor>([
    ...arraysOf(trained).map(([name, values]): [string, Tensor] => {
      const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
      return [name, { dtype: 'F32', shape: [values.length], data }];
    }),
    [CURVE, { dtype: 'F64', shape: [curve.length, 3], data: new Uint8Array(points.buffer) }],
  ]);
  const bytes = writeSafetensors({ tensors, metadata });
  const temporary = `${path}.${process.pid}.tmp`;
  try {
    const fd = openSync(temporary, 'w', 0o600);
    try {
      for (const part of [bytes, sha256(bytes)])
        for (let done = 0; done < part.length;) done += writeSync(fd, part, done);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

export type ReadCheckpoint =
  | { ok: true; state: RunState }
  | { ok: false; code: 'checkpoint_damaged' | 'checkpoint_mismatch'; problem: string };

/** @returns such as `other rows` and `other settings (rank, seed)`. */
function differences(found: TrainingIdentity, wanted: TrainingIdentity): string[] {
  const differing = <T extends object>(a: T, b: T): string[] =>
    Object.keys(b).filter((key) => JSON.stringify(a[key as keyof T]) !== JSON.stringify(b[key as keyof T]));
  return differing(found, wanted).map((key) =>
    key === 'settings'
      ? `other settings (${differing(found.settings, wanted.settings).join(', ')})`
      : key === 'rows' || key === 'weights'
        ? `other ${key}`
        : `another ${key}`,
  );
}

/** Reads it into parameters and optimizer, if it belongs to the training. */
export function readCheckpoint(path: string, identity: TrainingIdentity, trained: Trained): ReadCheckpoint {
  const damaged = (problem: string): ReadCheckpoint => ({ ok: false, code: 'checkpoint_damaged', problem });
  const file = new Uint8Array(readFileSync(path));
  const bytes = file.subarray(0, Math.max(0, file.length - DIGEST_BYTES));
  if (!sha256(bytes).equals(file.subarray(bytes.length))) return damaged('its sha256 is another');
  const { metadata, tensors } = parseSafetensors(bytes);
  const parsed = Metadata.safeParse(JSON.parse(metadata.get(KEY) ?? 'null'));
  if (!parsed.success || !tensors.has(CURVE)) return damaged('it was written by another version of graft');
  const mismatch = (problem: string): ReadCheckpoint => ({ ok: false, code: 'checkpoint_mismatch', problem });
  const other = differences(parsed.data.identity, identity);
  if (other.length > 0) return mismatch(`it belongs to a training with ${other.join(' and ')}`);
  const arrays = arraysOf(trained);
  for (const [name, values] of arrays)
    if (tensors.get(name)?.data.byteLength !== values.byteLength)
      return mismatch(`its ${name} has another shape`);
  for (const [name, values] of arrays) values.set(elementsOf(tensors.get(name)!.data, Float32Array));
  const { state } = parsed.data;
  trained.optimizer.step = state.step;
  const points = elementsOf(tensors.get(CURVE)!.data, Float64Array);
  return { ok: true, state: { ...state, curve: fromNumbers(points) } };
}
