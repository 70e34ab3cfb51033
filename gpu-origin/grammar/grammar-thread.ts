/** The thread of a worker. Messages are handled one after the other, in the order in which they come. */
import { openSync, readlinkSync, readSync } from 'node:fs';
import { setPriority } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { CoreFailed, WorkerCore } from './grammar-core.ts';
import type { Stepped } from './ports.ts';
import type { ThreadMessage, ThreadReply, ThreadStart } from './thread-worker.ts';

/** On Linux a thread that gives way has a third of the CPU time that one beside it has that does not. */
const GIVING_WAY = 5;

const { tokens } = workerData as ThreadStart;
const reply = (message: ThreadReply): void =>
  parentPort!.postMessage(message, message.kind === 'stepped' ? [message.stepped.masks.buffer] : []);

const core = await WorkerCore.create(tokens === null ? null : unpacked(tokens), ownCpuMs());
let turn = Promise.resolve();
parentPort!.on('message', (message: ThreadMessage) => {
  turn = turn.then(() => handle(message));
});
reply({ kind: 'started', thread: ownId() });

async function handle(message: ThreadMessage): Promise<void> {
  switch (message.kind) {
    case 'compile': {
      const compiled = await core.compile(message.grammar, message.asked);
      return reply({ kind: 'compiled', job: message.job, compiled });
    }
    case 'step': {
      const stepped = await stepOrReason(message);
      if (typeof stepped === 'string') return reply({ kind: 'lost', job: message.job, reason: stepped });
      return reply({ kind: 'stepped', job: message.job, stepped });
    }
    case 'forget':
      return core.forget(message.grammar);
    case 'open':
      return core.open(message.row, message.grammar);
    case 'close':
      return core.close(message.row);
    case 'giveWay':
      // Elsewhere it would be the whole process's.
      if (ownId() !== null) setPriority(GIVING_WAY);
      return;
  }
}

async function stepOrReason({ rows }: Extract<ThreadMessage, { kind: 'step' }>): Promise<Stepped | string> {
  try {
    return await core.step(rows);
  } catch (error) {
    if (error instanceof CoreFailed) return error.message;
    throw error;
  }
}

function unpacked({ bytes, ends, eosIds }: NonNullable<ThreadStart['tokens']>) {
  const all = new Uint8Array(bytes);
  return {
    vocabSize: ends.length,
    bytes: () => Array.from(ends, (end, id) => all.slice(id === 0 ? 0 : ends[id - 1], end)),
    eosIds,
  };
}

/** What Linux calls this thread; null elsewhere. */
function ownId(): number | null {
  try {
    return Number(readlinkSync('/proc/thread-self').split('/').at(-1));
  } catch {
    return null;
  }
}

/** Reads the CPU time of this thread, ms, in 3 us; null where the system does not say. */
function ownCpuMs(): (() => number) | null {
  try {
    const file = openSync('/proc/thread-self/schedstat', 'r');
    const text = Buffer.alloc(64);
    const read = (): number =>
      Number.parseInt(text.toString('latin1', 0, readSync(file, text, 0, text.length, 0)), 10) / 1e6;
    return Number.isFinite(read()) ? read : null;
  } catch {
    return null;
  }
}
