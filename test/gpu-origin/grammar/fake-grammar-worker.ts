/** Workers without a compiler: what they take and say is the test's. */
import { END } from './byte-core.ts';
import type {
  AskedForm,
  GrammarWorker,
  GrammarWorkerLost,
  GrammarWorkerRow,
  StartGrammarWorker,
} from '../../../gpu-origin/grammar/ports.ts';
import { gate } from '../engine/harness.ts';

const WORDS = Math.ceil((END + 1) / 32);

export const freeGrammar = (grammar: string): AskedForm => ({
  constraint: { constraint: { kind: 'grammar', grammar }, path: ['guided_grammar'] },
  tools: null,
});

/** What the test knows a grammar by. */
const nameOf = ({ constraint }: AskedForm): string => {
  const asked = constraint?.constraint;
  return asked?.kind === 'grammar' ? asked.grammar : asked?.kind === 'choice' ? asked.choices.join() : '';
};

export interface Behaviour {
  /** CPU time that it is said to take to compile, ms. */
  compileMs?: number;
  /** The compilation is said to take long, and waits for this. */
  stuck?: Promise<void>;
  lost?: GrammarWorkerLost;
  /** CPU time that each mask is said to take, ms. */
  maskMs?: number;
}

/** One that was started, with what it was asked to do. */
export interface FakeGrammarWorker extends GrammarWorker {
  readonly compiled: string[];
  readonly steps: (readonly GrammarWorkerRow[])[];
  readonly rowsOpen: Map<number, string>;
  gaveWay: boolean;
  stopped: boolean;
}

export function fakeWorkers(behaviours: Record<string, Behaviour> = {}): {
  start: StartGrammarWorker;
  workers: FakeGrammarWorker[];
} {
  const workers: FakeGrammarWorker[] = [];
  const start: StartGrammarWorker = async () => {
    const names = new Map<number, string>();
    const stopping = gate();
    const worker: FakeGrammarWorker = {
      ...{ words: WORDS, compiled: [], steps: [], rowsOpen: new Map(), gaveWay: false, stopped: false },
      async compile(grammar, asked, onLong) {
        const name = nameOf(asked);
        const { compileMs = 1, stuck, lost } = behaviours[name] ?? {};
        worker.compiled.push(name);
        names.set(grammar, name);
        if (lost !== undefined) throw lost;
        if (stuck !== undefined) {
          onLong?.();
          await Promise.race([stuck, stopping.opened]);
        }
        return { kind: 'compiled', ms: compileMs, characters: name.length };
      },
      forget: (grammar) => void names.delete(grammar),
      open: (row, grammar) => void worker.rowsOpen.set(row, names.get(grammar) ?? 'forgotten'),
      close: (row) => void worker.rowsOpen.delete(row),
      async step(rows) {
        worker.steps.push(rows);
        const ms = rows.map(({ row }) => behaviours[worker.rowsOpen.get(row) ?? '']?.maskMs ?? 0);
        return {
          masks: new Int32Array(rows.length * WORDS).fill(-1),
          rows: ms.map((spent) => ({ failure: null, ms: spent })),
        };
      },
      giveWay: () => void (worker.gaveWay = true),
      async stop() {
        worker.stopped = true;
        stopping.open();
      },
    };
    workers.push(worker);
    return worker;
  };
  return { start, workers };
}
