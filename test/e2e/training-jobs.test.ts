/** Fine-tuning jobs on a real origin with a tiny base: results, and what is left when something is killed. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import { originProgram } from '../../cli/local/origin-process.ts';
import { type ChainEntry, chainId } from '../../protocol/identity.ts';
import { type JobDeclaration, JobList, JobReport, ROWS_PART_BYTES } from '../../protocol/training-jobs.ts';
import { TINY_ADAPTERS, writeTinyAdapter, writeTinyBase } from '../fixtures/tiny-base.ts';
import { runProgram, TINY_REQUEST, TINY_ROWS, writeRows } from '../fixtures/training-program.ts';
import { filesWith, idOf, sha256 } from '../gpu-origin/jobs/rig.ts';

let folder: string;
let rows: Buffer;
let origin: ChildProcess | null = null;
let url: string;

/** Long enough to be stopped in between. */
const LONG = { ...TINY_REQUEST, least_steps: 1_000 };
const JOBS = 'cache/jobs-standalone';

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'graft-training-jobs-'));
  writeTinyBase(join(folder, 'base'));
  writeRows(join(folder, 'rows.jsonl'), TINY_ROWS);
  rows = readFileSync(join(folder, 'rows.jsonl'));
});
afterEach(() => end('SIGKILL'));
afterAll(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));

async function start(...flags: string[]): Promise<void> {
  const args = ['--dev', '--base', join(folder, 'base'), '--cache', join(folder, 'cache'), '--port', '0'];
  const child = spawn(process.execPath, [...originProgram('main'), ...args, ...flags], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  origin = child;
  for await (const line of createInterface({ input: child.stdout })) {
    const event = JSON.parse(line) as { event: string; url: string };
    if (event.event !== 'ready') continue;
    ({ url } = event);
    return;
  }
  throw new Error('the origin ended');
}

async function end(signal: NodeJS.Signals): Promise<void> {
  if (origin === null || origin.exitCode !== null || origin.signalCode !== null) return;
  const exited = once(origin, 'exit');
  origin.kill(signal);
  await exited;
}

async function call(method: string, path: string, body?: string | Buffer): Promise<unknown> {
  const answer = await fetch(url + path, {
    method,
    ...(body === undefined ? {} : { body: new Uint8Array(Buffer.from(body)) }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text === '' ? null : JSON.parse(text);
}
const report = async (id: string): Promise<JobReport> => JobReport.parse(await call('GET', `/jobs/${id}`));

async function bring(id: string, rest: Partial<JobDeclaration> = {}): Promise<JobReport> {
  const declaration: JobDeclaration = {
    tenant: 'alice',
    request: LONG,
    chain: [],
    rows: { bytes: rows.length, sha256: sha256(rows) },
    max_seconds: 3_600,
    ...rest,
  };
  const { missing_parts: parts } = JobReport.parse(
    await call('PUT', `/jobs/${id}`, JSON.stringify(declaration)),
  );
  for (const part of parts) {
    const bytes = rows.subarray(part * ROWS_PART_BYTES, (part + 1) * ROWS_PART_BYTES);
    await call('PUT', `/jobs/${id}/parts/${part}`, bytes);
  }
  return report(id);
}

const reaches = (id: string, isThere: (report: JobReport) => boolean): Promise<JobReport> =>
  expect
    .poll(async () => {
      const now = await report(id);
      if (now.state === 'failed' && !isThere(now)) throw new Error(now.failure?.message);
      return isThere(now) ? now : null;
    })
    .not.toBeNull()
    .then(() => report(id));

/** What `graft train` publishes of the same rows and settings, with the same threads. */
async function published(
  work: string,
  request: Partial<JobDeclaration['request']>,
  chain: readonly (ChainEntry & { path: string })[] = [],
): Promise<Uint8Array> {
  const more = ['--threads', String(Math.max(1, availableParallelism() - 1)), '--base-id', 'base'];
  expect((await runProgram({ folder, work, request, chain, more })).code).toBe(0);
  const weightsPath = join(folder, work, 'adapter/adapter_model.safetensors');
  const { bytes } = await packAdapter({
    files: {
      weights: new Uint8Array(readFileSync(weightsPath)),
      configJson: readFileSync(join(folder, work, 'adapter/adapter_config.json'), 'utf8'),
      weightsPath,
    },
    baseId: 'base',
    parentChainId: chain.length === 0 ? null : await chainId(chain),
  });
  return bytes;
}

/** Ids of the trainings that the origin has started. */
const trainings = (): number[] =>
  readdirSync('/proc')
    .map(Number)
    .filter((pid) => pid > 0 && parentOf(pid) === origin?.pid);

/** A report may say that it runs before its process is there. */
async function theTraining(): Promise<number> {
  await expect.poll(() => trainings().length).toBe(1);
  return trainings()[0]!;
}

function parentOf(pid: number): number | null {
  try {
    // After the name in brackets: state, parent.
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[1]);
  } catch {
    return null;
  }
}

it('trains on a chain to the bytes that graft train makes, and forgets the job', async () => {
  writeTinyAdapter(join(folder, 'parent'), TINY_ADAPTERS['attention']!, undefined, 'base');
  const weightsPath = join(folder, 'parent/adapter_model.safetensors');
  const parent = await packAdapter({
    files: {
      weights: new Uint8Array(readFileSync(weightsPath)),
      configJson: readFileSync(join(folder, 'parent/adapter_config.json'), 'utf8'),
      weightsPath,
    },
    baseId: 'base',
    parentChainId: null,
  });
  const chain = [{ digest: parent.digest, scale: 0.5 }];
  const path = join(folder, 'parent.safetensors');
  writeFileSync(path, parent.bytes);
  const wanted = await published('beside', TINY_REQUEST, [{ ...chain[0]!, path }]);

  await start('--train');
  const id = idOf('chain');
  const first = await bring(id, { request: TINY_REQUEST, chain });
  expect(first).toMatchObject({ state: 'waiting', missing_adapters: [parent.digest] });
  const part = { bytes: parent.bytes.length, sha256: parent.digest };
  await call('PUT', `/adapters/${parent.digest}`, JSON.stringify({ bytes: part.bytes, parts: [part] }));
  await call('PUT', `/adapters/${parent.digest}/parts/0`, Buffer.from(parent.bytes));
  const done = await reaches(id, ({ state }) => state === 'done');
  expect(done.result).toMatchObject({
    bytes: wanted.length,
    digest: sha256(wanted),
    card: { base: { id: 'base', weights: 'int8' }, chain, steps: 12, rows: { trained: 8, held_out: 4 } },
  });
  const file = await fetch(`${url}/jobs/${id}/result`);
  expect(file.headers.get('content-length')).toBe(String(wanted.length));
  expect(new Uint8Array(await file.arrayBuffer())).toEqual(wanted);
  const slice = await fetch(`${url}/jobs/${id}/result?begin=8&end=20`);
  expect(new Uint8Array(await slice.arrayBuffer())).toEqual(wanted.subarray(8, 20));
  expect(done.events.map(({ metrics }) => metrics?.step).filter((step) => step !== undefined)).toEqual(
    Array.from({ length: 13 }, (_, step) => step),
  );
  expect(filesWith(join(folder, JOBS), 'answer')).toEqual([]);
  expect(await call('DELETE', `/jobs/${id}`)).toEqual({ deleted: true });
  expect(await call('DELETE', `/jobs/${id}`)).toEqual({ deleted: false });
  expect(readdirSync(join(folder, JOBS))).toEqual([]);
  const metrics = await (await fetch(`${url}/metrics`)).text();
  expect(metrics).toContain('graft_jobs_ended_total{outcome="done"} 1');
  expect(metrics).toContain('graft_jobs_running 0');
});

it('answers with the same bits while it trains', async () => {
  await start('--train');
  const ask = (): Promise<unknown> =>
    call(
      'POST',
      '/v1/completions',
      JSON.stringify({
        model: 'base',
        prompt: 'Which bits?',
        max_tokens: 24,
        temperature: 0,
        logprobs: 5,
        ignore_eos: true,
      }),
    ).then((answer) => (answer as { choices: { logprobs: unknown }[] }).choices[0]?.logprobs);
  const alone = await ask();
  expect(alone).toMatchObject({ token_logprobs: expect.arrayContaining([expect.any(Number)]) });
  const id = idOf('bits');
  await bring(id);
  const { step } = await reaches(id, (now) => now.state === 'running' && now.step > 0);
  for (let i = 0; i < 5; i++) expect(await ask()).toEqual(alone);
  await reaches(id, (now) => now.step > step);
  await call('DELETE', `/jobs/${id}`);
});

it('goes on after pauses, ends and kills of the origin and of the training, to the same bytes', async () => {
  const wanted = await published('whole', LONG);
  await start('--train');
  const id = idOf('kills');
  await bring(id);
  await reaches(id, ({ step }) => step > 0);
  const [training] = trainings();
  const proc = (name: string): string => readFileSync(`/proc/${training}/${name}`, 'utf8').trim();
  // It gives way to everything else: 19 is the eighteenth field of what follows the name.
  expect(proc('stat').split(') ')[1]?.split(' ')[16]).toBe('19');
  expect(proc('oom_score_adj')).toBe('1000');
  expect(proc('environ')).not.toContain('GRAFT_ORIGIN');

  await call('POST', `/jobs/${id}/pause`);
  await expect.poll(trainings).toEqual([]);
  const paused = await report(id);
  expect(paused).toMatchObject({ state: 'paused', steps: 1_000 });
  await call('POST', `/jobs/${id}/resume`);
  await reaches(id, ({ step }) => step > paused.step);

  await end('SIGTERM');
  expect(existsSync(join(folder, JOBS, id, 'work/checkpoint.safetensors'))).toBe(true);
  await start('--train');
  const { step } = await reaches(id, (now) => now.state === 'running' && now.step > 0);
  expect(step).toBeGreaterThan(paused.step);

  // Its training ends with it.
  const orphan = await theTraining();
  await end('SIGKILL');
  await expect.poll(() => existsSync(`/proc/${orphan}/environ`) && parentOf(orphan) !== null).toBe(false);
  await start('--train');
  await reaches(id, (now) => now.step > 0);
  process.kill(await theTraining(), 'SIGSEGV');
  const done = await reaches(id, ({ state }) => state === 'done');
  expect(done.result?.digest).toBe(sha256(wanted));
  expect(done.events.map(({ message }) => message)).toContain(
    'The training ended unexpectedly. It is started again.',
  );
  const steps = done.events.flatMap(({ metrics }) => (metrics === null ? [] : [metrics.step]));
  expect(steps).toEqual([...steps].sort((a, b) => a - b));
});

it('fails for want of memory when the kernel kills it, and leaves nothing when it is deleted or no longer trains', async () => {
  await start('--train');
  const [killed, deleted] = [idOf('killed'), idOf('deleted')];
  await bring(killed);
  await reaches(killed, ({ step }) => step > 0);
  process.kill(await theTraining(), 'SIGKILL');
  const failed = await reaches(killed, ({ state }) => state === 'failed');
  expect(failed.failure).toMatchObject({ code: 'out_of_memory' });
  expect(readdirSync(join(folder, JOBS, killed)).sort()).toEqual(['events.jsonl', 'job.json']);

  await bring(deleted);
  await reaches(deleted, ({ step }) => step > 0);
  await call('DELETE', `/jobs/${deleted}`);
  expect(trainings()).toEqual([]);
  expect(readdirSync(join(folder, JOBS))).toContain(killed);
  // Of the job before, which has ended only just now, too.
  await expect.poll(() => filesWith(join(folder, JOBS), 'answer')).toEqual([]);
  expect(existsSync(join(folder, JOBS, deleted))).toBe(false);

  await end('SIGTERM');
  await start();
  expect(existsSync(join(folder, JOBS))).toBe(false);
  expect(JobList.parse(await call('GET', '/jobs'))).toEqual({ trains: false, jobs: [] });
  expect(await call('DELETE', `/jobs/${killed}`)).toEqual({ deleted: false });
  await expect(call('GET', `/jobs/${killed}`)).rejects.toThrow(/404 .*Start it with --train/);
});
