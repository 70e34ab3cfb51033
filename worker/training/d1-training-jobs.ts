import { z } from 'zod';
import { JOB_STATUSES } from '../../protocol/fine-tuning.ts';
import { JobEvent } from '../../protocol/training-jobs.ts';
import {
  gaveRow,
  mayAct,
  readable,
  readColumn,
  type SqlDatabase,
  type SqlStatement,
} from '../platform/d1-database.ts';
import { UsageRow } from '../metering/ports.ts';
import { notFreeFor } from '../registry/d1-claim-rows.ts';
import {
  JOB_DELETION_RETRY_MS,
  JOB_DELETIONS_PER_RUN,
  JOB_KEPT_MS,
  MAX_ENDED_JOBS,
  MAX_KEPT_EVENTS,
  MAX_OPEN_JOBS,
} from './limits.ts';
import { JobDocument, type NewJobEvent, type TrainingJob, type TrainingJobs } from './ports.ts';

interface Row {
  id: string;
  tenant: string;
  name: string;
  base: string;
  status: string;
  origin: string | null;
  finished_at: number | null;
  looked_at: number;
  revision: number;
  document: string;
}

/** How many of a tenant have not ended. */
const OPEN = 'SELECT COUNT(*) FROM training_jobs WHERE tenant = ? AND finished_at IS NULL';
/** Names that the erasure ?1 erases. */
const WHOLE = 'SELECT name FROM erasure_items WHERE erasure = ?1 AND version = 0';
const COLUMNS = 'id, tenant, name, base, status, origin, finished_at, looked_at, revision, document';

/** @throws DamagedRow */
function toJob(row: Row): TrainingJob {
  const { finished_at: finishedAt, looked_at: lookedAt, document, status, ...rest } = row;
  const place = { table: 'training_jobs', id: row.id, column: 'document' };
  return {
    ...rest,
    ...readColumn(JobDocument, document, place),
    status: z.enum(JOB_STATUSES).parse(status),
    finishedAt,
    lookedAt,
  };
}

const documentOf = (job: TrainingJob): string => {
  const { id: _i, tenant: _t, name: _n, base: _b, status: _s, origin: _o, ...rest } = job;
  const { finishedAt: _f, lookedAt: _l, revision: _r, ...document } = rest;
  return JSON.stringify(document satisfies JobDocument);
};

interface EventRow {
  number: number;
  at: number;
  level: string;
  message: string;
  metrics: string | null;
}

const Stored = JobEvent.omit({ metrics: true });
const toEvent = (job: string, { metrics, ...row }: EventRow) => ({
  ...Stored.parse(row),
  metrics:
    metrics === null
      ? null
      : readColumn(JobEvent.shape.metrics, metrics, { table: 'training_events', id: job, column: 'metrics' }),
});

export function createD1TrainingJobs(db: SqlDatabase): TrainingJobs {
  /**
   * After a change in the same batch: only where that one has been made. Of two changes of one revision, the later one
   * finds a document that is not its own.
   */
  const MADE = 'EXISTS (SELECT 1 FROM training_jobs WHERE id = ?1 AND revision = ?2 AND document = ?3)';

  function addEvents(job: TrainingJob, events: readonly NewJobEvent[]): SqlStatement[] {
    if (events.length === 0) return [];
    const { id, revision, events: last } = job;
    const rows = events.map(({ at, level, message, metrics }, i) => [
      last - events.length + 1 + i,
      at,
      level,
      message,
      metrics === null ? null : JSON.stringify(metrics),
    ]);
    return [
      db
        .prepare(
          `INSERT OR IGNORE INTO training_events (job, number, at, level, message, metrics)
           SELECT ?1, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each(?4) WHERE ${MADE}`,
        )
        .bind(id, revision, documentOf(job), JSON.stringify(rows)),
      db
        .prepare('DELETE FROM training_events WHERE job = ? AND number <= ?')
        .bind(id, last - MAX_KEPT_EVENTS),
    ];
  }

  const many = async (statement: SqlStatement): Promise<TrainingJob[]> =>
    readable((await statement.all<Row>()).results, toJob);

  const forget = (ids: string): SqlStatement[] => [
    db.prepare('DELETE FROM training_events WHERE job IN (SELECT value FROM json_each(?))').bind(ids),
    db.prepare('DELETE FROM training_jobs WHERE id IN (SELECT value FROM json_each(?))').bind(ids),
  ];

  return {
    async create(job, event) {
      const { id, tenant, name, parent, base, status, finishedAt, lookedAt, keyId } = job;
      const free = notFreeFor(tenant, name);
      const [created] = await db.batch([
        db
          .prepare(
            // eslint-disable-next-line no-restricted-syntax -- made of constants; the values are bound
            `INSERT INTO training_jobs (id, tenant, name, parent, base, status, origin, not_before, began_at, finished_at,
               revision, leased_until, looked_at, document)
             SELECT ?, ?, ?, ?, ?, ?, NULL, 0, NULL, ?, ?, 0, ?, ?
             WHERE (${OPEN}) < ? AND ${mayAct('?')}
               AND (EXISTS (SELECT 1 FROM names WHERE name = ? AND owner = ?)
                 OR NOT (EXISTS (SELECT 1 FROM names WHERE name = ?) OR (${free.sql})))
             RETURNING id`,
          )
          .bind(
            ...[id, tenant, name, parent?.split('@', 1)[0] ?? null, base, status],
            ...[finishedAt, job.revision, lookedAt, documentOf(job)],
            ...[tenant, MAX_OPEN_JOBS, keyId, keyId],
            ...[name, tenant, name, ...free.values],
          ),
        ...addEvents(job, [event]),
        ...['training_events WHERE job', 'training_jobs WHERE id'].map((from) =>
          db
            .prepare(
              // eslint-disable-next-line no-restricted-syntax -- made of constants
              `DELETE FROM ${from} IN (SELECT id FROM training_jobs WHERE tenant = ? AND finished_at IS NOT NULL
                 ORDER BY id DESC LIMIT 100 OFFSET ${MAX_ENDED_JOBS})`,
            )
            .bind(tenant),
        ),
      ]);
      if (gaveRow(created)) return 'created';
      const others = await db.prepare(`SELECT (${OPEN}) AS many`).bind(tenant).first<{ many: number }>();
      return (others?.many ?? 0) >= MAX_OPEN_JOBS ? 'full' : 'taken';
    },

    async get({ id, tenant }) {
      const row = await db
        .prepare(`SELECT ${COLUMNS} FROM training_jobs WHERE id = ? AND tenant = ?`)
        .bind(id, tenant)
        .first<Row>();
      return row === null ? null : toJob(row);
    },

    list: ({ tenant, after, limit }) =>
      many(
        db
          .prepare(
            `SELECT ${COLUMNS} FROM training_jobs WHERE tenant = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3`,
          )
          .bind(tenant, after, limit),
      ),

    async events({ job, before, limit }) {
      const { results } = await db
        .prepare(
          `SELECT number, at, level, message, metrics FROM training_events
           WHERE job = ?1 AND (?2 IS NULL OR number < ?2) ORDER BY number DESC LIMIT ?3`,
        )
        .bind(job, before, limit)
        .all<EventRow>();
      return readable(results, (row) => toEvent(job, row));
    },

    async lease({ id, now, until }) {
      const row = await db
        .prepare(
          `UPDATE training_jobs SET leased_until = ?3, looked_at = ?2
           WHERE id = ?1 AND leased_until <= ?2 AND finished_at IS NULL RETURNING ${COLUMNS}`,
        )
        .bind(id, now, until)
        .first<Row>();
      return row === null ? null : toJob(row);
    },

    async renew({ id, until, next }) {
      const row = await db
        .prepare(
          'UPDATE training_jobs SET leased_until = ?3 WHERE id = ?1 AND leased_until = ?2 RETURNING id',
        )
        .bind(id, until, next)
        .first();
      return row !== null;
    },

    async release({ id, until }) {
      await db
        .prepare('UPDATE training_jobs SET leased_until = 0 WHERE id = ? AND leased_until = ?')
        .bind(id, until)
        .run();
    },

    async save(job, { notBefore, beganAt, ...change }, { events = [], leaves = false, usage = null } = {}) {
      const next: TrainingJob = {
        ...job,
        ...change,
        revision: job.revision + 1,
        events: job.events + events.length,
      };
      const [saved] = await db.batch([
        db
          .prepare(
            `UPDATE training_jobs SET status = ?3, origin = ?4, finished_at = ?5, revision = ?2 + 1, document = ?6,
               not_before = COALESCE(?7, not_before), began_at = COALESCE(?8, began_at)
             WHERE id = ?1 AND revision = ?2 RETURNING id`,
          )
          .bind(
            job.id,
            job.revision,
            next.status,
            next.origin,
            next.finishedAt,
            documentOf(next),
            notBefore ?? null,
            beganAt ?? null,
          ),
        ...addEvents(next, events),
        ...(usage === null
          ? []
          : [
              db
                .prepare(`INSERT INTO training_usage (tenant, batch, used) SELECT ?4, ?5, ?6 WHERE ${MADE}`)
                .bind(
                  ...[job.id, next.revision, documentOf(next)],
                  ...[usage.tenant, crypto.randomUUID(), JSON.stringify(usage)],
                ),
            ]),
        // An origin that is given it again must not delete it then.
        ...(next.origin === null || next.origin === job.origin
          ? []
          : [
              db
                .prepare(`DELETE FROM training_deletions WHERE job = ?1 AND origin = ?4 AND ${MADE}`)
                .bind(job.id, next.revision, documentOf(next), next.origin),
            ]),
        ...(leaves && job.origin !== null
          ? [
              db
                .prepare(
                  `INSERT OR IGNORE INTO training_deletions (origin, job, asked_at) SELECT ?4, ?1, 0 WHERE ${MADE}`,
                )
                .bind(job.id, next.revision, documentOf(next), job.origin),
            ]
          : []),
      ]);
      return gaveRow(saved) ? next : null;
    },

    async attended({ now, limit }) {
      const { results } = await db
        .prepare(
          `SELECT id FROM training_jobs WHERE finished_at IS NULL AND origin IS NOT NULL AND leased_until <= ?
           ORDER BY looked_at LIMIT ?`,
        )
        .bind(now, limit)
        .all<{ id: string }>();
      return results.map(({ id }) => id);
    },

    async waitingBases(now) {
      const { results } = await db
        .prepare(
          `SELECT DISTINCT base FROM training_jobs
           WHERE finished_at IS NULL AND origin IS NULL AND status = 'queued' AND not_before <= ?`,
        )
        .bind(now)
        .all<{ base: string }>();
      return results.map(({ base }) => base);
    },

    async busyOrigins() {
      const { results } = await db
        .prepare(
          `SELECT DISTINCT origin FROM training_jobs
           WHERE finished_at IS NULL AND origin IS NOT NULL AND status <> 'paused'`,
        )
        .all<{ origin: string }>();
      return results.map(({ origin }) => origin);
    },

    async next({ base, now }) {
      const row = await db
        .prepare(
          `SELECT ${COLUMNS} FROM training_jobs j
           WHERE finished_at IS NULL AND origin IS NULL AND status = 'queued' AND base = ?1 AND not_before <= ?2
           ORDER BY COALESCE((SELECT MAX(b.began_at) FROM training_jobs b WHERE b.tenant = j.tenant), 0), id LIMIT 1`,
        )
        .bind(base, now)
        .first<Row>();
      return row === null ? null : toJob(row);
    },

    async deletions({ now, limit }) {
      const { results } = await db
        .prepare(
          `UPDATE training_deletions SET asked_at = ?1 WHERE (origin, job) IN (
             SELECT origin, job FROM training_deletions WHERE asked_at <= ?1 - ${JOB_DELETION_RETRY_MS}
             ORDER BY asked_at LIMIT ?2) RETURNING origin, job`,
        )
        .bind(now, limit)
        .all<{ origin: string; job: string }>();
      return results;
    },

    async deleted({ origin, job }) {
      await db.prepare('DELETE FROM training_deletions WHERE origin = ? AND job = ?').bind(origin, job).run();
    },

    async leaves({ origin, job }) {
      await db
        .prepare(
          `INSERT OR IGNORE INTO training_deletions (origin, job, asked_at) SELECT ?1, ?2, 0
           WHERE NOT EXISTS (SELECT 1 FROM training_jobs WHERE id = ?2 AND origin = ?1)`,
        )
        .bind(origin, job)
        .run();
    },

    async uncounted({ tenant, limit }) {
      const statement =
        tenant === null
          ? db.prepare('SELECT batch, used FROM training_usage ORDER BY tenant, batch LIMIT ?').bind(limit)
          : db
              .prepare('SELECT batch, used FROM training_usage WHERE tenant = ? ORDER BY batch LIMIT ?')
              .bind(tenant, limit);
      const { results } = await statement.all<{ batch: string; used: string }>();
      return readable(results, ({ batch, used }) => ({
        batch,
        row: readColumn(UsageRow, used, { table: 'training_usage', id: batch, column: 'used' }),
      }));
    },

    async counted({ tenant, batch }) {
      await db.prepare('DELETE FROM training_usage WHERE tenant = ? AND batch = ?').bind(tenant, batch).run();
    },

    async tend(now) {
      const { results } = await db
        .prepare(
          `SELECT id FROM training_jobs WHERE finished_at <= ?1 - ${JOB_KEPT_MS} ORDER BY finished_at LIMIT ?2`,
        )
        .bind(now, JOB_DELETIONS_PER_RUN)
        .all<{ id: string }>();
      if (results.length > 0) await db.batch(forget(JSON.stringify(results.map(({ id }) => id))));
    },

    async erase({ erasure, tenant, limit }) {
      const { results } = await db
        .prepare(
          `SELECT id FROM training_jobs WHERE tenant = ?2
           UNION SELECT id FROM training_jobs WHERE name IN (${WHOLE})
           UNION SELECT id FROM training_jobs WHERE parent IN (${WHOLE}) LIMIT ?3`,
        )
        .bind(erasure, tenant, limit)
        .all<{ id: string }>();
      if (results.length === 0) return 0;
      const ids = JSON.stringify(results.map(({ id }) => id));
      await db.batch([
        db
          .prepare(
            `INSERT OR IGNORE INTO training_deletions (origin, job, asked_at)
             SELECT origin, id, 0 FROM training_jobs
             WHERE id IN (SELECT value FROM json_each(?)) AND origin IS NOT NULL`,
          )
          .bind(ids),
        ...forget(ids),
      ]);
      return results.length;
    },
  };
}
