import { writePointer } from '../../registry/write-pointer.ts';
import {
  EXPERIMENTS_PER_RUN,
  EXPOSURE_LIFE_MS,
  LAST_LOOKS_PER_RUN,
  UNTOLD_EXPERIMENTS_PER_RUN,
} from '../limits.ts';
import type { ExperimentRow } from '../ports.ts';
import { evaluate, settle } from './evaluate.ts';
import type { EvaluateDeps } from './life-deps.ts';
import { logLine, reasonOf } from '../../log.ts';

/** Who is in the history when nobody asked. */
const SCHEDULE = 'schedule';

/**
 * One round of the schedule: tells KV of changes that were cut off, then looks at the live experiments whose turn it is,
 * and for the last time at those that ended a week ago.
 * One that fails keeps none of the others from its turn.
 * @throws the first failure, when all had their turn.
 */
export async function evaluateAll(deps: EvaluateDeps): Promise<void> {
  const failures: Error[] = [];
  const attempt = async (row: ExperimentRow, work: () => Promise<{ ok: boolean }>): Promise<void> => {
    try {
      // A change that somebody else made meanwhile is no failure: the next round sees it.
      await work();
    } catch (error) {
      const reason = reasonOf(error);
      logLine('experiment_not_evaluated', { experiment: row.id, reason });
      failures.push(error instanceof Error ? error : new Error(reason));
    }
  };
  for (const row of await deps.experimentLedger.behind(UNTOLD_EXPERIMENTS_PER_RUN))
    await attempt(row, async () => {
      const { name, version } = row.document;
      const written = await writePointer(deps, { name, what: 'change' });
      if (written.ok) await deps.experimentLedger.written({ id: row.id, version });
      return written;
    });
  const turn = { at: deps.now(), limit: EXPERIMENTS_PER_RUN };
  for (const row of await deps.experimentLedger.inTurn(turn))
    await attempt(row, () => evaluate(deps, { row, actor: SCHEDULE }));
  const over = { endedBefore: deps.now() - EXPOSURE_LIFE_MS, limit: LAST_LOOKS_PER_RUN };
  for (const row of await deps.experimentLedger.unsettled(over)) await attempt(row, () => settle(deps, row));
  if (failures.length > 0) throw failures[0];
}
