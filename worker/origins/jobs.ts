/** Fine-tuning jobs at origins: the wire of protocol/training-jobs.ts. */
import type { z } from 'zod';
import { pathForBase } from '../../protocol/origin-wire.ts';
import { JobDeletion, JobList, JobReport, type JobDeclaration } from '../../protocol/training-jobs.ts';
import { logLine } from '../log.ts';
import { readExactly } from './ask-origins.ts';
import { readOriginText, type OriginFetch } from './connection.ts';
import { JOB_BYTES_MS, JOB_CALL_MS, LOAD_BUDGET_MS } from './limits.ts';
import type { Origin, Pools } from './routing.ts';
import { parseRefusal, textOf } from './send.ts';
import type { Transfers } from './transfers.ts';

/** What an origin says of a job. */
export type JobAnswer =
  | { kind: 'report'; report: JobReport }
  /** It has no such job. */
  | { kind: 'unknown' }
  /** With its code, such as `queue_full` while another job runs there. */
  | { kind: 'refused'; code: string; message: string }
  /** It does not answer, or something else does. */
  | { kind: 'away' };

/** Each call names an origin by its id. None throws, except StoreUnavailable where adapters are read. */
export interface OriginJobs {
  /** Ids of the origins of a base. */
  of(base: string): string[];
  isKnown(origin: string): boolean;
  /** @returns null if the origin does not answer. */
  list(origin: string): Promise<JobList | null>;
  /** @param after number of the last event that is known. */
  report(origin: string, id: string, after: number): Promise<JobAnswer>;
  declare(origin: string, id: string, declaration: JobDeclaration): Promise<JobAnswer>;
  sendRows(
    origin: string,
    id: string,
    part: { index: number; bytes: Uint8Array<ArrayBuffer> },
  ): Promise<JobAnswer>;
  steer(origin: string, id: string, to: 'pause' | 'resume'): Promise<JobAnswer>;
  /**
   * @param slice.step of a checkpoint; null = the result.
   * @returns bytes of it from `begin` on; null if the origin does not send exactly these.
   */
  result(
    origin: string,
    id: string,
    slice: { step: number | null; begin: number; bytes: number },
  ): Promise<Uint8Array<ArrayBuffer> | null>;
  /** @returns whether the origin has nothing of it, which it says only when that is so. */
  remove(origin: string, id: string): Promise<boolean>;
  /** Sends the files of adapters. @returns whether all are there. */
  bring(
    origin: string,
    digests: readonly string[],
    keepAlive: (work: Promise<unknown>) => void,
  ): Promise<boolean>;
}

export function createOriginJobs(params: {
  pools: Pools;
  send: OriginFetch;
  transfers: Transfers;
  now: () => number;
}): OriginJobs {
  const { pools, send, transfers, now } = params;
  const find = (id: string): Origin | undefined => pools.all.find((origin) => origin.id === id);
  type Call = Omit<Parameters<OriginFetch>[1], 'signal'> & { ms?: number };

  /** @returns the answer, unread; null if it does not come. */
  async function call(id: string, { ms = JOB_CALL_MS, path, ...rest }: Call): Promise<Response | null> {
    const origin = find(id);
    if (origin === undefined) return null;
    const signal = AbortSignal.timeout(ms);
    const sent = await send(origin, { ...rest, path: pathForBase(path, origin.base ?? null), signal });
    if (sent.ok) return sent.value;
    logLine('origin_unreachable', { origin: id, reason: sent.error.reason });
    return null;
  }

  async function read<T>(response: Response, schema: z.ZodType<T>, origin: string): Promise<T | null> {
    try {
      return schema.parse(JSON.parse((await readOriginText(response)) ?? ''));
    } catch (error) {
      logLine('odd_origin_answer', { origin, path: '/jobs', reason: String(error).slice(0, 300) });
      return null;
    }
  }

  async function ask(origin: string, id: string, { path, ...rest }: Call): Promise<JobAnswer> {
    const response = await call(origin, { ...rest, path: `/jobs/${id}${path}` });
    if (response === null) return { kind: 'away' };
    if (!response.ok) {
      const refusal = parseRefusal(await textOf(response));
      if (refusal === null || refusal.code === 'invalid_signature') return { kind: 'away' };
      if (response.status === 404) return { kind: 'unknown' };
      return { kind: 'refused', code: refusal.code, message: refusal.message };
    }
    const report = await read(response, JobReport, origin);
    // Another job's would be published under this one's name.
    return report === null || report.id !== id ? { kind: 'away' } : { kind: 'report', report };
  }

  return {
    of: (base) => pools.of(base).map(({ id }) => id),
    isKnown: (id) => find(id) !== undefined,

    async list(origin) {
      const response = await call(origin, { method: 'GET', path: '/jobs' });
      if (response === null) return null;
      if (response.ok) return read(response, JobList, origin);
      await response.body?.cancel();
      return null;
    },

    report: (origin, id, after) => ask(origin, id, { method: 'GET', path: `?after=${after}` }),

    declare: (origin, id, declaration) =>
      ask(origin, id, { method: 'PUT', path: '', body: JSON.stringify(declaration) }),

    sendRows: (origin, id, { index, bytes }) =>
      ask(origin, id, {
        method: 'PUT',
        path: `/parts/${index}`,
        body: bytes,
        contentType: 'application/octet-stream',
        ms: JOB_BYTES_MS,
      }),

    steer: (origin, id, to) => ask(origin, id, { method: 'POST', path: `/${to}` }),

    async result(origin, id, { step, begin, bytes }) {
      const of = step === null ? '' : `&step=${step}`;
      const path = `/jobs/${id}/result?begin=${begin}&end=${begin + bytes}${of}`;
      const response = await call(origin, { method: 'GET', path, ms: JOB_BYTES_MS });
      if (response?.ok === true && response.body !== null)
        return readExactly(response.body, bytes).catch(() => null);
      await response?.body?.cancel();
      return null;
    },

    async remove(origin, id) {
      const response = await call(origin, { method: 'DELETE', path: `/jobs/${id}` });
      if (response?.ok === true) return (await read(response, JobDeletion, origin)) !== null;
      await response?.body?.cancel();
      return false;
    },

    async bring(id, digests, keepAlive) {
      const origin = find(id);
      if (origin === undefined) return false;
      for (const digest of digests) {
        const sent = await transfers.pushAdapter(origin, digest, {
          until: now() + LOAD_BUDGET_MS,
          keepAlive,
        });
        if (!sent.ok) return false;
      }
      return true;
    },
  };
}
