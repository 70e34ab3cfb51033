/** The real gatherers, in this process. */
import { createDoGatherers, Gatherer, type GathererStorage } from '../../worker/gathering/gatherer-object.ts';
import type { Gatherers } from '../../worker/gathering/ports.ts';
import type { UsageLedger } from '../../worker/metering/ports.ts';
import type { KeptPrompts } from '../../worker/prompts/ports.ts';
import type { TrafficLedger } from '../../worker/traffic/ports.ts';
import type { DurableNamespace, SqlValue } from '../../worker/platform/store-calls.ts';
import { WAIT_MS } from '../setup/slow.ts';
import { openObjectSql } from '../worker/platform/sqlite.ts';

/** What is in it stays, whoever is made of it; its alarm rings when the test says so. */
export interface GathererDisk extends GathererStorage {
  alarm: number | null;
}

export function gathererDisk(): GathererDisk {
  const sql = openObjectSql();
  const disk: GathererDisk = {
    alarm: null,
    sql,
    transactionSync: (work) => sql.transaction(work),
    sync: async () => undefined,
    getAlarm: async () => disk.alarm,
    async setAlarm(at) {
      disk.alarm = at;
    },
  };
  return disk;
}

/** @param onRows called with the rows that are written, of indexes too, and their table; an alarm is billed as one. */
export function countingDisk(onRows: (rows: number, table: string) => void): GathererDisk {
  const disk = gathererDisk();
  const { sql, setAlarm } = disk;
  return Object.assign(disk, {
    sql: {
      exec(query: string, ...bindings: SqlValue[]) {
        const answer = sql.exec(query, ...bindings);
        const table = /^(?:INSERT (?:OR \w+ )?INTO|DELETE FROM|UPDATE) (\w+)/.exec(query)?.[1];
        if (table === undefined) return answer;
        const rows = Number(sql.exec('SELECT changes() AS n').toArray()[0]?.['n']);
        // A change of what its index has not leaves that as it is.
        onRows(table === 'minutes' && !query.startsWith('UPDATE') ? 2 * rows : rows, table);
        return answer;
      },
    },
    setAlarm(at: number) {
      onRows(1, 'alarm');
      return setAlarm(at);
    },
  });
}

/** @param after called after each answer of an object. */
export function namespaceOf<Made extends { fetch(request: Request): Promise<Response> }>(
  make: (name: string) => Made,
  after: (object: Made) => Promise<void> = async () => undefined,
): DurableNamespace {
  const objects = new Map<string, Made>();
  return {
    idFromName: (name) => name,
    get: (id) => ({
      async fetch(url, init) {
        const object = objects.get(id as string) ?? make(id as string);
        objects.set(id as string, object);
        const response = await object.fetch(new Request(url, init));
        await after(object);
        return response;
      },
    }),
  };
}

/**
 * Their alarms ring at once, so that what is counted is in the ledger when it is acknowledged.
 * @param params.quiet they never ring: it is in the ledger once something has gatherers write.
 */
export function createGatherersInProcess(params: {
  usage: Pick<UsageLedger, 'add'>;
  traffic: Pick<TrafficLedger, 'writeHour'>;
  keptPrompts: Pick<KeptPrompts, 'add'>;
  now: () => number;
  quiet?: boolean;
}): Gatherers {
  const parts = { ...params, sleep: async () => undefined };
  const make = () => new Gatherer({ storage: gathererDisk() }, { DB: null as never }, parts);
  const limits = { timeoutMs: WAIT_MS, writeTimeoutMs: WAIT_MS };
  if (params.quiet === true) return createDoGatherers({ namespace: namespaceOf(make), ...limits });
  return createDoGatherers({ namespace: namespaceOf(make, (object) => object.alarm()), ...limits });
}
