/** Routes of fine-tuning jobs, signed, over jobs with a played training. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { JobReport, ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import { CARD, declarationOf, JOB, openRig, OTHER, type Rig, ROWS, sha256 } from '../jobs/rig.ts';
import { type Origin, signedFetch, startTestOrigin } from './harness.ts';

let rig: Rig;
let origin: Origin;
beforeEach(async () => {
  rig = await openRig();
  origin = await startTestOrigin({ signed: true, context: { jobs: rig.jobs } });
});
afterEach(async () => {
  await origin.stop();
  await rig.settled();
  expect([...rig.faults, ...origin.faults]).toEqual([]);
  await rig.remove();
});

type Init = Parameters<typeof signedFetch>[2];
const ask = (method: string, path: string, init: Init = {}, signed: Parameters<typeof signedFetch>[3] = {}) =>
  signedFetch(origin, path, { method, ...init }, signed);
const declare = (id = JOB, body: object = declarationOf()) =>
  ask('PUT', `/jobs/${id}`, { body: JSON.stringify(body) });
const errorOf = async (response: Response) => {
  const { error } = (await response.json()) as { error: { code: string; message: string; param: unknown } };
  return { status: response.status, ...error };
};
const reportOf = async (response: Response): Promise<JobReport> => {
  expect(response.status).toBe(200);
  return JobReport.parse(await response.json());
};

describe('an origin that trains', () => {
  it('takes a job, reports it, and gives its result', async () => {
    expect(await (await ask('GET', '/jobs')).json()).toEqual({ trains: true, jobs: [] });
    expect((await reportOf(await declare())).missing_parts).toEqual([0]);
    const body = new Uint8Array(ROWS);
    expect((await reportOf(await ask('PUT', `/jobs/${JOB}/parts/0`, { body }))).state).toBe('running');
    const training = await rig.training(1);
    training.steps(1);
    training.steps(2);
    const after = await reportOf(await ask('GET', `/jobs/${JOB}?after=1`));
    expect(after.events.map(({ number }) => number)).toEqual([2]);
    expect((await reportOf(await ask('POST', `/jobs/${JOB}/pause`))).state).toBe('paused');
    training.stops(2);
    await rig.settled();
    expect((await reportOf(await ask('POST', `/jobs/${JOB}/resume`))).state).toBe('running');
    expect((await errorOf(await ask('GET', `/jobs/${JOB}/result`))).status).toBe(404);
    (await rig.training(2)).succeeds('a packed adapter');
    await rig.settled();
    expect(await (await ask('GET', '/jobs')).json()).toEqual({
      trains: true,
      jobs: [{ id: JOB, tenant: 'alice', state: 'done' }],
    });
    const { result } = await reportOf(await ask('GET', `/jobs/${JOB}`));
    expect(result).toMatchObject({ bytes: 16, digest: sha256('a packed adapter') });
    const file = await ask('GET', `/jobs/${JOB}/result`);
    expect([file.headers.get('content-length'), await file.text()]).toEqual(['16', 'a packed adapter']);
    expect(await (await ask('GET', `/jobs/${JOB}/result?begin=2&end=8`)).text()).toBe('packed');
    for (const slice of ['begin=2&end=17', 'begin=8&end=8', 'begin=-1'])
      expect((await errorOf(await ask('GET', `/jobs/${JOB}/result?${slice}`))).status).toBe(400);
    expect((await errorOf(await ask('GET', `/jobs/${JOB}/result?step=4`))).status).toBe(404);
    for (const deleted of [true, false])
      expect(await (await ask('DELETE', `/jobs/${JOB}`)).json()).toEqual({ deleted });
    expect((await errorOf(await ask('GET', `/jobs/${JOB}`))).code).toBe('not_found');
  });

  it('gives a part of a checkpoint, and of none that it does not have', async () => {
    await rig.bring(JOB, ROWS, { checkpoints: true });
    const training = await rig.training(1);
    training.succeeds('a packed adapter', CARD, [training.keeps(4, 'of the fourth step')]);
    await rig.settled();
    const { checkpoints } = await reportOf(await ask('GET', `/jobs/${JOB}`));
    expect(checkpoints.map(({ bytes, card }) => [bytes, card.steps])).toEqual([[18, 4]]);
    const part = (query: string) => ask('GET', `/jobs/${JOB}/result?${query}`);
    expect(await (await part('step=4&begin=7&end=13')).text()).toBe('fourth');
    expect((await errorOf(await part('step=4&begin=7&end=19'))).status).toBe(400);
    for (const step of ['5', '-4', 'x']) expect((await errorOf(await part(`step=${step}`))).status).toBe(404);
  });

  it.each<[string, string, string, number]>([
    ['an id of another form', 'GET', '/jobs/ftjob-A', 400],
    ['a path upwards', 'DELETE', '/jobs/..%2F..%2Fetc', 400],
    ['an unknown job', 'POST', `/jobs/${OTHER}/pause`, 404],
    ['a number that is none', 'GET', `/jobs/${JOB}?after=x`, 400],
    ['a part that was not declared', 'PUT', `/jobs/${JOB}/parts/1`, 404],
    ['a part of an unknown job', 'PUT', `/jobs/${OTHER}/parts/0`, 404],
    ['a part without a number', 'PUT', `/jobs/${JOB}/parts/x`, 404],
    ['another method', 'POST', `/jobs/${JOB}`, 405],
  ])('refuses %s', async (_what, method, path, status) => {
    await declare();
    expect((await ask(method, path)).status).toBe(status);
  });

  it.each<[string, object, string]>([
    ['a field that it does not know', { address: 'https://example.com' }, 'Unrecognized key'],
    ['too many rows', { rows: { bytes: 33 * 1024 ** 2, sha256: 'a'.repeat(64) } }, 'rows.bytes'],
    ['too long a time', { max_seconds: 8 * 60 * 60 + 1 }, 'max_seconds'],
    [
      'too long a chain',
      { chain: Array.from({ length: 8 }, () => ({ digest: 'a'.repeat(64), scale: 1 })) },
      'chain',
    ],
    ['a rank that is too high', { request: { ...declarationOf().request, rank: 257 } }, 'request.rank'],
  ])('refuses a declaration with %s', async (_what, change, named) => {
    const { status, message } = await errorOf(await declare(JOB, { ...declarationOf(), ...change }));
    expect([status, message]).toEqual([400, expect.stringContaining(named)]);
    expect(rig.files()).toEqual([]);
  });

  it('reads no more of a part than was declared, and only what was signed', async () => {
    await declare();
    const send = (body: Uint8Array<ArrayBuffer>, signed = {}) =>
      ask('PUT', `/jobs/${JOB}/parts/0`, { body }, signed);
    expect((await errorOf(await send(new Uint8Array(ROWS_PART_BYTES + 1)))).code).toBe('request_too_large');
    expect((await errorOf(await send(new Uint8Array(ROWS.length + 1)))).code).toBe('request_too_large');
    expect((await errorOf(await send(new Uint8Array(ROWS.length - 1)))).code).toBe('invalid_request');
    const other = { bodyHash: sha256('another body') };
    expect((await errorOf(await send(new Uint8Array(ROWS), other))).code).toBe('invalid_signature');
    expect((await reportOf(await ask('GET', `/jobs/${JOB}`))).missing_parts).toEqual([0]);
  });

  it('asks for a signature at every route', async () => {
    await declare();
    const paths: [string, string][] = [
      ['GET', '/jobs'],
      ['PUT', `/jobs/${JOB}`],
      ['GET', `/jobs/${JOB}`],
      ['DELETE', `/jobs/${JOB}`],
      ['PUT', `/jobs/${JOB}/parts/0`],
      ['POST', `/jobs/${JOB}/pause`],
      ['POST', `/jobs/${JOB}/resume`],
      ['GET', `/jobs/${JOB}/result`],
    ];
    for (const [method, path] of paths) expect((await fetch(origin.url + path, { method })).status).toBe(401);
    expect((await reportOf(await ask('GET', `/jobs/${JOB}`))).state).toBe('receiving');
  });

  it('refuses a second job while one goes on, with a time to retry', async () => {
    await declare();
    const busy = await declare(OTHER);
    expect(Number(busy.headers.get('retry-after-ms'))).toBeGreaterThan(0);
    expect(await errorOf(busy)).toMatchObject({ status: 429, code: 'queue_full' });
  });

  it('ends a job whose adapter is dropped', async () => {
    const digest = 'a'.repeat(64);
    await declare(JOB, declarationOf(ROWS, { chain: [{ digest, scale: 1 }] }));
    const dropped = await ask('POST', '/adapters/drop', { body: JSON.stringify({ digests: [digest] }) });
    expect(dropped.status).toBe(200);
    expect((await reportOf(await ask('GET', `/jobs/${JOB}`))).failure?.code).toBe('base_mismatch');
  });
});

it('an origin that does not train says so', async () => {
  const plain = await startTestOrigin({ signed: true });
  try {
    const of = (method: string, path: string) => signedFetch(plain, path, { method });
    expect(await (await of('GET', '/jobs')).json()).toEqual({ trains: false, jobs: [] });
    expect(await (await of('DELETE', `/jobs/${JOB}`)).json()).toEqual({ deleted: false });
    for (const path of ['', '/result'])
      expect(await errorOf(await of('GET', `/jobs/${JOB}${path}`))).toMatchObject({ code: 'not_found' });
  } finally {
    await plain.stop();
  }
});
