import { expect, it } from 'vitest';
import type { RequestChunk } from '../../../worker/traffic/ports.ts';
import { packRequests, packRow, unpackRequests, unpackRow } from '../../../worker/traffic/pack-traffic.ts';
import { addRequests, boundNames, rowOf, UNNAMED } from '../../../worker/traffic/sum-traffic.ts';
import { ended } from '../../contracts/sample-rows.ts';

it('keeps the busiest names, and merges the others of each tenant', () => {
  const rows = ['a', 'b', 'c', 'd'].map((name, i) => ({ ...rowOf(ended({ name })), requests: i + 1 }));
  // From before, when there were too many too.
  const before = { ...rowOf(ended({ name: UNNAMED, key_id: '' })), requests: 4 };
  const other = rowOf(ended({ tenant: 'you', name: 'z' }));
  const bound = boundNames([...rows, before, other], 2);
  const found = bound.map(({ tenant, name, requests }) => `${tenant} ${name} ${requests}`).sort();
  expect(found).toEqual(['me * 7', 'me c 3', 'me d 4', 'you * 1']);
});

it('keeps the newest requests of each tenant, and counts the others', () => {
  const chunks = new Map<string, RequestChunk>();
  const { at } = ended();
  let listed = 0;
  for (let i = 0; i < 15; i += 1) {
    const requests = [ended({ id: `r${i}`, at: at + i })];
    listed += addRequests(chunks, { tenant: 'me', requests, leftOut: i === 0 ? 2 : 0 }, 10);
  }
  expect(listed).toBe(10);
  const mine = chunks.get('me');
  expect(mine?.requests.map(({ id }) => id).slice(0, 2)).toEqual(['r14', 'r13']);
  expect([mine?.requests.length, mine?.leftOut]).toEqual([10, 7]);
});

it('reads what it has packed', () => {
  const requests = [
    ended({ id: 'r3', at: ended().at + 9, ttft_ms: null, phases: [], kept: true, cold: true }),
    ended({ id: 'r2', request_id: 'mine', unknown_name: 'x', code: 'model_not_found', status: 404 }),
    ended({ id: 'r1', unknown_name: 'y', stream: false, degraded: 'ancestor', variant: 'b' }),
    ended({
      id: 'r0',
      request_id: 'mine',
      phases: [
        { name: 'key', ms: 0.5 },
        { name: 'name', ms: 3 },
      ],
    }),
  ];
  expect(unpackRequests(packRequests(requests), 'me')).toEqual(requests);
  for (const request of requests) expect(unpackRow(packRow(rowOf(request)))).toEqual(rowOf(request));
});

it('takes less than 200 bytes a request', () => {
  const requests = Array.from({ length: 100 }, (_, i) =>
    ended({
      ...{ id: crypto.randomUUID(), at: ended().at - 17 * i, name: `tenant-4711/name-${i % 7}` },
      ...{ prompt_tokens: 1_234, completion_tokens: 256, duration_ms: 4_321 + i, ttft_ms: 321 + i },
      key_id: `key_${'0'.repeat(15)}${i % 3}`,
      phases: ['key', 'name', 'origin', 'origin-prompt', 'origin-first', 'origin-queue'].map((name) => ({
        ...{ name, ms: 100.3 + i },
      })),
    }),
  );
  expect(packRequests(requests).length / requests.length).toBeLessThan(150);
});
