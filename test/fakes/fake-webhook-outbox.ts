import type { WebhookMessageRow, WebhookOutbox } from '../../worker/experiments/ports.ts';

/** The outbox as a model. */
export function createFakeWebhookOutbox(): WebhookOutbox {
  const rows = new Map<string, WebhookMessageRow & { nextAt: number | null; madeAt: number }>();
  const open = (id: string) => {
    const row = rows.get(id);
    return row === undefined || row.nextAt === null ? undefined : row;
  };
  return {
    async add(message, at) {
      if (!rows.has(message.id)) rows.set(message.id, { ...message, tries: 0, nextAt: at, madeAt: at });
    },
    async retract(id) {
      if (open(id) !== undefined) rows.delete(id);
    },
    due: async ({ now, limit }) =>
      [...rows.values()]
        .filter(({ nextAt }) => nextAt !== null && nextAt <= now)
        .sort((a, b) => a.nextAt! - b.nextAt! || (a.id < b.id ? -1 : 1))
        .slice(0, limit)
        .map(({ nextAt: _, madeAt: _m, ...row }) => row),
    async done(id) {
      const row = rows.get(id);
      if (row !== undefined) row.nextAt = null;
    },
    async later(id, nextAt) {
      const row = open(id);
      if (row !== undefined) Object.assign(row, { tries: row.tries + 1, nextAt });
    },
    async forget(before) {
      for (const row of [...rows.values()]) if (row.madeAt < before) rows.delete(row.id);
    },
  };
}
