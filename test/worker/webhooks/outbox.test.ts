import { beforeEach, describe, expect, it } from 'vitest';
import { createD1WebhookOutbox } from '../../../worker/webhooks/d1-webhooks.ts';
import { WEBHOOK_KEPT_MS } from '../../../worker/webhooks/limits.ts';
import { openDatabase } from '../platform/database.ts';
import type { WebhookOutbox } from '../../../worker/webhooks/ports.ts';

const message = (id: string) => ({ id, source: 'exp_1', url: 'https://example.com/', body: '{}' });

const make = async () => {
  const db = await openDatabase();
  await db
    .prepare(
      `INSERT INTO experiments (id, name, owner, version, status, seed, seeds, document, created_at, created_by)
       VALUES ('exp_1', 'a', 'me', 1, 'running', 's', '[]', '{}', 1, 'key_1')`,
    )
    .run();
  return createD1WebhookOutbox(db);
};

describe('WebhookOutbox', () => {
  let outbox: WebhookOutbox;
  const due = async (now: number, limit = 9) =>
    (await outbox.due({ now, limit })).map(({ id, tries }) => `${id} ${tries}`);
  beforeEach(async () => {
    outbox = await make();
  });

  it('gives each message when its time has come, until it is done', async () => {
    await outbox.add(message('b'), 20);
    await outbox.add(message('a'), 10);
    expect(await due(9)).toEqual([]);
    expect(await due(10)).toEqual(['a 0']);
    expect(await due(20)).toEqual(['a 0', 'b 0']);
    expect(await due(20, 1)).toEqual(['a 0']);
    expect(await outbox.due({ now: 10, limit: 9 })).toEqual([{ ...message('a'), tries: 0 }]);
    await outbox.later('a', 30);
    expect(await due(29)).toEqual(['b 0']);
    expect(await due(30)).toEqual(['b 0', 'a 1']);
    await outbox.done('b');
    expect(await due(99)).toEqual(['a 1']);
  });

  it('takes none twice, also when it was sent, until it is forgotten', async () => {
    await outbox.add(message('a'), 10);
    await outbox.done('a');
    await outbox.later('a', 11);
    await outbox.add(message('a'), 20);
    expect(await due(99)).toEqual([]);
    await outbox.forget(10 + WEBHOOK_KEPT_MS);
    await outbox.add(message('a'), 20);
    expect(await due(99)).toEqual([]);
    await outbox.forget(11 + WEBHOOK_KEPT_MS);
    await outbox.add(message('a'), 30);
    expect(await due(99)).toEqual(['a 0']);
  });

  it('takes back what did not happen, but nothing that was sent', async () => {
    for (const id of ['a', 'b']) await outbox.add(message(id), 10);
    await outbox.done('b');
    await outbox.retract('a');
    await outbox.retract('b');
    for (const id of ['a', 'b']) await outbox.add(message(id), 10);
    expect(await due(99)).toEqual(['a 0']);
  });
});
