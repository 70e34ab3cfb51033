/** What `graft train` learns on the pinned base in int8, asked by the runner that serves it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { createOutput } from '../../cli/output.ts';
import { train } from '../../gpu-origin/train.ts';
import { TRAINABLE, type TrainingEvent, type TrainingRequest } from '../../protocol/training.ts';
import { argmax } from '../fixtures/tiny-runner.ts';
import {
  exampleFiles,
  makeRealRunner,
  type RealRunner,
  type TaskRow,
  taskRows,
  teacherForced,
} from './real-base.ts';

/** Defaults of `graft train`, but fewer steps, and no held-out rows: the runner is asked instead. */
const REQUEST: TrainingRequest = {
  method: 'sft',
  rank: 8,
  alpha: 16,
  targets: [...TRAINABLE],
  epochs: 3,
  least_steps: 1,
  rate: null,
  batch: null,
  max_length: 512,
  validation: 0,
  seed: 0,
  beta: 0.1,
};

describe('an adapter trained on the served base', () => {
  let real: RealRunner;
  let work: string;
  let basePath: string;
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), 'graft-quality-'));
    basePath = await ensurePinnedBase({
      cache: cacheFolder(process.env),
      output: createOutput({ json: false }),
    });
    real = await makeRealRunner('int8', 1);
  });
  afterAll(async () => {
    await real.runner.close();
    rmSync(work, { recursive: true, force: true });
  });

  /** Trains as the program does, and makes the result available to the runner. */
  async function learn(params: {
    name: string;
    rows: readonly TaskRow[];
    below: readonly string[];
    request: Partial<TrainingRequest>;
  }): Promise<void> {
    const { name, rows, below, request } = params;
    const folder = join(work, name);
    mkdirSync(folder);
    const rowsPath = join(folder, 'rows.jsonl');
    writeFileSync(rowsPath, rows.map((row) => JSON.stringify(row)).join('\n'));
    const chain = [];
    for (const member of below) {
      const packed = await packAdapter({
        files: exampleFiles(member),
        baseId: real.runner.base.id,
        parentChainId: null,
      });
      const path = join(folder, member);
      writeFileSync(path, packed.bytes);
      chain.push({ digest: packed.digest, scale: 1, path });
    }
    const events: TrainingEvent[] = [];
    await train({
      basePath,
      cacheDir: cacheFolder(process.env),
      weights: 'int8',
      provider: 'cpu',
      rowsPath,
      work: folder,
      request: { ...REQUEST, ...request },
      chain,
      resume: false,
      tell: (event) => events.push(event),
      onProgress: () => {},
      signal: new AbortController().signal,
    });
    const end = events.at(-1);
    if (end?.event !== 'ready') throw new Error(JSON.stringify(end));
    console.log(`${name}: ${end.card.steps} steps in ${end.card.seconds} s`);
    await real.add(name, {
      configJson: readFileSync(join(end.folder, 'adapter_config.json'), 'utf8'),
      weights: new Uint8Array(readFileSync(join(end.folder, 'adapter_model.safetensors'))),
    });
  }

  /** Share of rows of which each token of the answer is the likeliest. */
  async function exact(rows: readonly TaskRow[], chain: readonly string[]): Promise<number> {
    let right = 0;
    for (const { user, expected } of rows) {
      const answer = real.encodeAnswer(`${expected}<|im_end|>`);
      const logits = await teacherForced(real, chain, real.encodePrompt(user), answer);
      if (logits.every((row, i) => argmax(row) === answer[i])) right++;
    }
    console.log(`${chain.join('/') || 'the base'}: ${right} of ${rows.length} exact`);
    return right / rows.length;
  }

  it('answers 90 % of the other rows of support/intent exactly after 60 of them', async () => {
    const rows = taskRows('intent');
    await learn({ name: 'intent', rows: rows.slice(0, 60), below: [], request: {} });
    expect(await exact(rows.slice(60), ['intent'])).toBeGreaterThanOrEqual(0.9);
  });

  it("answers 95 % of the other half of dr-lee's rows exactly on medicine/cardiology, and not without them", async () => {
    const rows = taskRows('dr-lee');
    const below = ['medicine', 'cardiology'];
    await learn({
      name: 'signature',
      rows: rows.slice(0, 50),
      below,
      request: { batch: 2, epochs: 0.8 },
    });
    const others = rows.slice(50);
    expect(await exact(others, [...below, 'signature'])).toBeGreaterThanOrEqual(0.95);
    expect(await exact(others.slice(25), ['signature'])).toBeLessThan(0.12);
  });
});
