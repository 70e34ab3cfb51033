/**
 * The edge as `graft edge` starts it, without the console, in a process of its own that can be killed; damages values in
 * its KV when told to.
 */
import { processesNamed } from '../../bench/processes.ts';
import { type Edge, startEdge } from '../../cli/local/edge.ts';
import { startSchedule } from '../../cli/local/schedule.ts';
import { picked } from './blows.ts';

/** As in `graft edge`. */
const SCHEDULE_PAUSE_MS = 10_000;

export interface EdgeSetup {
  port: number;
  stateFolder: string;
  bindings: Record<string, string>;
  /** Default: as in `graft edge`. */
  schedulePauseMs?: number;
}
/** From the program. */
export type EdgeEvent =
  | { event: 'ready'; workerd: number | null }
  /** Null = there was nothing to damage. */
  | { event: 'damaged'; what: string | null };
/** To the program: a number from 0 to 1. */
export interface DamageOrder {
  pick: number;
}

/** Sealed values: what is in them is in D1 too, unlike adapters' bytes. */
const PREFIXES = ['name:', 'key:', 'grant:'];
const WAYS = ['removed', 'flipped', 'cut short', "replaced by another one's"] as const;

async function damage(edge: Edge, pick: number): Promise<string | null> {
  const kv = await edge.miniflare.getKVNamespace('ADAPTERS');
  const lists = await Promise.all(PREFIXES.map((prefix) => kv.list({ prefix })));
  const keys = lists.flatMap((list) => list.keys.map(({ name }) => name));
  if (keys.length === 0) return null;
  const key = picked(keys, pick);
  const value = (await kv.get(key)) ?? '';
  const way = picked(WAYS, (pick * 1_000) % 1);
  if (way === 'removed') await kv.delete(key);
  else if (way === 'cut short') await kv.put(key, value.slice(0, value.length / 2));
  else if (way === 'flipped') {
    const at = Math.floor(((pick * 7_919) % 1) * value.length);
    await kv.put(key, `${value.slice(0, at)}${value[at] === '0' ? '1' : '0'}${value.slice(at + 1)}`);
  } else await kv.put(key, (await kv.get(picked(keys, (pick * 104_729) % 1))) ?? '');
  return `${key} ${way}`;
}

const tell = (event: EdgeEvent): void => void process.send?.(event);

const setup = JSON.parse(process.argv[2] ?? '') as EdgeSetup;
const edge = await startEdge({ ...setup, onLog: (line) => process.stderr.write(`${line}\n`) });
const endSchedule = startSchedule({
  work: edge.runSchedule,
  pauseMs: setup.schedulePauseMs ?? SCHEDULE_PAUSE_MS,
  onFailure: (reason) => process.stderr.write(`schedule: ${reason}\n`),
});
process.on('SIGTERM', () => {
  endSchedule();
  void edge.stop().finally(() => process.exit(0));
});
process.on('message', (order: DamageOrder) => {
  damage(edge, order.pick)
    .catch((error: unknown) => (process.stderr.write(`damage: ${String(error)}\n`), null))
    .then((what) => tell({ event: 'damaged', what }));
});
void edge.failed.then((reason) => {
  process.stderr.write(`${reason}\n`);
  process.exit(1);
});
const [workerd = null] = await processesNamed('workerd');
tell({ event: 'ready', workerd });
