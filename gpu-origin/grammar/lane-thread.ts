/** The thread of a lane. Messages are handled one after the other, in the order in which they come. */
import { parentPort, workerData } from 'node:worker_threads';
import { CoreFailed, GrammarCore } from './grammar-core.ts';
import type { LaneMessage, LaneReply, LaneStart } from './thread-lane.ts';

const { bytes, ends, eosIds, masks } = workerData as LaneStart;
const all = new Uint8Array(bytes);
const tokens = [...ends].map((end, id) => all.slice(id === 0 ? 0 : ends[id - 1], end));
const target = new Int32Array(masks);
const reply = (message: LaneReply): void => parentPort!.postMessage(message);

const core = await GrammarCore.create(tokens, eosIds);
let turn = Promise.resolve();
parentPort!.on('message', (message: LaneMessage) => {
  turn = turn.then(() => handle(message));
});
reply({ kind: 'started' });

async function handle(message: LaneMessage): Promise<void> {
  switch (message.kind) {
    case 'compile': {
      const error = await failureOf(() => core.compile(message.grammar, message.ebnf));
      return reply({ kind: 'compiled', job: message.job, error: error.failure });
    }
    case 'step': {
      const { failure, value } = await failureOf(() => core.step(message.rows, target));
      return reply({ kind: 'stepped', job: message.job, failures: value ?? [], lost: failure });
    }
    case 'forget':
      return core.forget(message.grammar);
    case 'open':
      return core.open(message.row, message.grammar);
    case 'close':
      return core.close(message.row);
  }
}

async function failureOf<T>(work: () => Promise<T>): Promise<{ failure: string | null; value?: T }> {
  try {
    return { failure: null, value: await work() };
  } catch (error) {
    if (error instanceof CoreFailed) return { failure: error.message };
    throw error;
  }
}
