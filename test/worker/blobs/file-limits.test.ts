/** Files that the edge would not publish for their size: `graft publish` says so before it sends any of it. */
import { expect, it } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { EXIT } from '../../../cli/cli-error.ts';
import { planUpload, uploadBlob } from '../../../cli/publish/upload-blob.ts';
import { MAX_PART_BYTES, MAX_PARTS } from '../../../protocol/limits.ts';
import { MAX_CHECKED_HEADER_BYTES } from '../../../worker/blobs/limits.ts';
import { createAppHarness } from '../app-harness.ts';

const digest = 'd'.repeat(64);

async function startClient(change: (state: { limits: object }) => void = () => undefined) {
  const graft = await createAppHarness();
  const asked: string[] = [];
  const fetchFn: typeof fetch = async (input, init) => {
    const { method = 'GET', body } = init ?? {};
    asked.push(`${method} ${String(input).replace(digest, '<digest>')}`);
    const answer = await graft.request(String(input), {
      method,
      ...(body == null
        ? {}
        : { body: typeof body === 'string' ? (JSON.parse(body) as object) : (body as Uint8Array) }),
    });
    if (method !== 'GET') return answer;
    const state = (await answer.json()) as { limits: object };
    change(state);
    return Response.json(state);
  };
  return { asked, client: createApiClient({ url: '', key: graft.adminKey, fetchFn }) };
}

it('refuses a file with a header that is too large to be read, before a byte of it is sent', async () => {
  const { asked, client } = await startClient();
  const bytes = new Uint8Array(MAX_CHECKED_HEADER_BYTES + 100);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(MAX_CHECKED_HEADER_BYTES + 1), true);
  const refusal = {
    exitCode: EXIT.refused,
    code: 'adapter_invalid',
    message: expect.stringMatching(
      /^The packed file has a header of 4194305 bytes; the server reads at most 4194304\. .*\(header_too_large\)$/,
    ) as string,
  };
  await expect(uploadBlob({ client, digest, bytes })).rejects.toMatchObject(refusal);
  await expect(planUpload({ client, digest, bytes })).rejects.toMatchObject(refusal);
  expect(asked).toEqual(['GET /admin/blobs/<digest>', 'GET /admin/blobs/<digest>']);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(MAX_CHECKED_HEADER_BYTES), true);
  expect((await planUpload({ client, digest, bytes })).missing).toEqual([0]);
});

it('takes files of all the parts there may be', async () => {
  const { client } = await startClient((state) => {
    state.limits = { ...state.limits, file_bytes: 420, part_bytes: 10 };
  });
  const plan = await planUpload({ client, digest, bytes: new Uint8Array(420) });
  expect(plan.missing).toHaveLength(MAX_PARTS);
  await expect(planUpload({ client, digest, bytes: new Uint8Array(421) })).rejects.toMatchObject({
    message: expect.stringContaining('(file_too_large)') as string,
  });
});

it('cuts a file as the edge takes parts', async () => {
  const small = await startClient((state) => {
    state.limits = { file_bytes: 100, part_bytes: 10, parts: 2, header_bytes: 100 };
  });
  const plan = await planUpload({ client: small.client, digest, bytes: new Uint8Array(20) });
  expect(plan.record.parts.map(({ bytes }) => bytes)).toEqual([10, 10]);
  await expect(planUpload({ client: small.client, digest, bytes: new Uint8Array(21) })).rejects.toMatchObject(
    {
      exitCode: EXIT.refused,
    },
  );
});

it('says the largest part, the largest number of them, and the largest header', async () => {
  const told: object[] = [];
  const { client } = await startClient(({ limits }) => told.push(limits));
  await planUpload({ client, digest, bytes: new Uint8Array(1) });
  expect(told).toEqual([
    {
      file_bytes: MAX_PARTS * MAX_PART_BYTES,
      part_bytes: MAX_PART_BYTES,
      parts: MAX_PARTS,
      header_bytes: MAX_CHECKED_HEADER_BYTES,
    },
  ]);
});
