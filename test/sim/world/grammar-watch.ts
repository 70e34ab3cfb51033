/** Workers of grammars in a simulated origin: in its own thread, with times of their own, and counted. */
import { startLocalWorker } from '../../../gpu-origin/grammar/grammar-core.ts';
import { type GrammarWorker, QUICK_MS, type StartGrammarWorker } from '../../../gpu-origin/grammar/ports.ts';

/** Above it a grammar's masks are slow, ms (grammar-service.ts). */
const SLOW_MASK_MS = 5;

export class GrammarWatch {
  /** Rows that are open in some worker. */
  open = 0;
  readonly #sleep: (ms: number) => Promise<void>;

  constructor(sleep: (ms: number) => Promise<void>) {
    this.#sleep = sleep;
  }

  readonly startWorker: StartGrammarWorker = async (params) => {
    const worker = await startLocalWorker(params);
    await this.#sleep(Math.random() * 100);
    return this.#watched(worker);
  };

  #watched(worker: GrammarWorker): GrammarWorker {
    const rows = new Set<number>();
    const counted = (change: () => void): void => {
      this.open -= rows.size;
      change();
      this.open += rows.size;
    };
    // One in ten takes as long as a grammar that is not compiled beside rows, or has slow masks.
    const compileMs = (): number => (Math.random() < 0.1 ? 2 * QUICK_MS : 100) * Math.random();
    const maskMs = Math.random() < 0.1 ? 2 * SLOW_MASK_MS : 0;
    return {
      ...worker,
      compile: async (grammar, asked, onLong) => {
        const ms = compileMs();
        await this.#sleep(Math.min(ms, QUICK_MS));
        if (ms > QUICK_MS) {
          onLong?.();
          await this.#sleep(ms - QUICK_MS);
        }
        const compiled = await worker.compile(grammar, asked);
        return compiled.kind === 'compiled' ? { ...compiled, ms } : compiled;
      },
      open: (row, grammar) => {
        counted(() => rows.add(row));
        worker.open(row, grammar);
      },
      close: (row) => {
        counted(() => rows.delete(row));
        worker.close(row);
      },
      step: async (asked) => {
        if (maskMs > 0) await this.#sleep(maskMs * asked.length);
        const stepped = await worker.step(asked);
        return { ...stepped, rows: stepped.rows.map((row) => ({ ...row, ms: maskMs })) };
      },
      stop: async () => {
        counted(() => rows.clear());
        await worker.stop();
      },
    };
  }
}
