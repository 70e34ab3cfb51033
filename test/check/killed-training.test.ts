/** The program that trains, killed at random moments: nothing half-written, and the same bytes in the end. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { TrainingEvent } from '../../protocol/training.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { readResult, runProgram, startProgram, TINY_ROWS, writeRows } from '../fixtures/training-program.ts';

const KILLS = 50;
/** In starts, of some 0.4 s: some hundred steps a second follow. */
const LONGEST = 1.75;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-killed-'));
  writeTinyBase(join(folder, 'base'));
  writeRows(join(folder, 'rows.jsonl'), TINY_ROWS);
});
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

it(`goes on to the same bytes after ${KILLS} kills, ten of them by SIGTERM`, async () => {
  const request = { least_steps: 1_500 };
  const began = performance.now();
  const first = startProgram({ folder, work: 'whole', request });
  await first.sees('plan');
  const longestMs = LONGEST * (performance.now() - began);
  const whole = await first.end;
  expect(whole.code).toBe(0);
  const wanted = readResult(join(folder, 'whole'));
  const work = join(folder, 'work');
  let finished = false;
  const firsts: number[] = [];
  for (let kill = 0; kill < KILLS; kill += 1) {
    if (finished) rmSync(work, { recursive: true });
    const resumes = kill > 0 && !finished && readdirSync(work).includes('checkpoint.safetensors');
    // So often that kills also hit the writing of a checkpoint.
    const more = ['--save-every', '5', ...(resumes ? ['--resume'] : [])];
    const program = startProgram({ folder, request, more });
    await sleep(Math.random() * longestMs);
    program.child.kill(kill % 5 === 0 ? 'SIGTERM' : 'SIGKILL');
    const { events } = await program.end;
    expect(events.filter(({ event }) => event === 'failed')).toEqual([]);
    const plan = events.find((one): one is TrainingEvent & { event: 'plan' } => one.event === 'plan');
    if (plan !== undefined) firsts.push(plan.done);
    const result = readResult(work);
    finished = result !== null;
    if (finished) expect(result).toEqual(wanted);
  }
  // Most of them went on from a checkpoint.
  expect(firsts.filter((done) => done > 0).length).toBeGreaterThan(firsts.length / 2);
  const resumes = !finished && readdirSync(work).includes('checkpoint.safetensors');
  const end = await runProgram({ folder, request, more: resumes ? ['--resume'] : [] });
  expect(end.code).toBe(0);
  expect(readResult(work)).toEqual(wanted);
  expect(readdirSync(work).sort()).toEqual(['adapter', 'checkpoint.safetensors']);
});
