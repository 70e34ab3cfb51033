/** Jobs whose rows to hold out are a file of their own. */
import { beforeEach, expect, it, vi } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import { sha256Hex } from '../../../protocol/identity.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createJobRig, ROWS, type JobRig } from './job-rig.ts';

const HELD_OUT = '{"prompt":"c","completion":"d"}\n{"prompt":"e","completion":"f"}\n';

let rig: JobRig;
let alice: NewKey;
beforeEach(async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockReturnValue(undefined);
  rig = await createJobRig();
  alice = await rig.makeKey({ tenant: 'alice', train: true });
});

it('is sent to the origin behind the rows, and no share of these is held out', async () => {
  const validation_file = await rig.sendRows(alice, HELD_OUT);
  const created = await rig.create(alice, { validation_file });
  expect(created.body).toMatchObject({ status: 'queued', validation_file });
  await rig.run();
  const { declaration } = rig.origin.jobs.get(created.body.id)!;
  expect(declaration.validation).toEqual({ bytes: HELD_OUT.length, sha256: await sha256Hex(HELD_OUT) });
  expect(declaration.request.validation).toBe(0);
  expect(rig.origin.rowsOf(created.body.id).toString()).toBe(ROWS + HELD_OUT);
  rig.origin.finish(tinyAdapter({ seed: 11 }));
  await rig.run();
  expect(await rig.get(created.body.id, alice)).toMatchObject({
    status: 'succeeded',
    validation_file,
    fine_tuned_model: 'alice/first@1',
  });
});

it('must be the one that the result was scored with', async () => {
  const { id } = (await rig.create(alice, { validation_file: await rig.sendRows(alice, HELD_OUT) })).body;
  await rig.run();
  const { sha256 } = rig.origin.jobs.get(id)!.declaration.rows;
  rig.origin.finish(tinyAdapter({ seed: 11 }), { rows: { sha256, trained: 1, held_out: 2, left_out: 0 } });
  await rig.run();
  expect((await rig.get(id, alice)).error?.message).toContain('does not belong to this job');
});

it('is refused beside a share, and if it is not of the tenant', async () => {
  const own = await rig.sendRows(alice, HELD_OUT);
  const bob = await rig.makeKey({ tenant: 'bob', train: true });
  const both = await rig.create(alice, { validation_file: own, graft: { validation: 0.1 } });
  expect([both.status, both.body.error]).toMatchObject([400, { param: 'graft.validation' }]);
  const foreign = await rig.create(bob, { validation_file: own });
  expect([foreign.status, foreign.body.error]).toMatchObject([400, { param: 'validation_file' }]);
  expect(foreign.body.error.message).toContain('There is no file');
});

it('that is deleted before an origin has it ends the job', async () => {
  const own = await rig.sendRows(alice, HELD_OUT);
  const { id } = (await rig.create(alice, { validation_file: own })).body;
  await rig.ask(`/v1/files/${own}`, alice, undefined, 'DELETE');
  await rig.run();
  expect((await rig.get(id, alice)).error).toMatchObject({
    code: 'file_not_found',
    param: 'validation_file',
  });
});
