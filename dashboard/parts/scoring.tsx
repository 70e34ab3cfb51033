import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import type { ScoredEvaluation } from '../../protocol/admin-api/evaluations.ts';
import type { ConfusionTable } from '../../protocol/confusion.ts';
import type { Client } from '../api/client.ts';
import { scoreRows, type RowsScored, type WantedScore } from '../api/score.ts';
import type { Problem } from '../model/problem.ts';
import { whole } from '../model/words.ts';
import { Table } from './table.tsx';

export interface Scoring {
  readonly running: boolean;
  /** Of the last run; null before the first, and after one that was stopped or is complete. */
  readonly rows: RowsScored | null;
  /** Why the last run failed. */
  readonly problem: Problem | null;
  /** @returns the complete scores; null if it failed or was stopped. */
  start(wanted: readonly WantedScore[]): Promise<ScoredEvaluation[] | null>;
  /** Ends the run after its current request, whose rows are kept. */
  stop(): void;
}

const IDLE = { running: false, rows: null, problem: null };

/** One run at a time; it ends when the view closes. @param name whose evaluations. */
export function useScoring(client: Client, name: string): Scoring {
  const [state, setState] = useState<Pick<Scoring, 'running' | 'rows' | 'problem'>>(IDLE);
  const current = useRef<object | null>(null);
  const stop = () => {
    current.current = null;
    setState(IDLE);
  };
  useEffect(() => stop, [name]);
  return {
    ...state,
    async start(wanted) {
      const run = {};
      current.current = run;
      const isStopped = () => current.current !== run;
      const scored = await scoreRows(client, {
        ...{ name, wanted, isStopped },
        onProgress: (rows) => setState({ running: true, rows, problem: null }),
      });
      if (isStopped()) return null;
      current.current = null;
      if (scored.ok) setState(IDLE);
      else setState(({ rows }) => ({ running: false, rows, problem: scored.error }));
      return scored.ok ? scored.value : null;
    },
    stop,
  };
}

/** How far it is, or why it failed and what to do. @param props.children buttons. */
export function ScoringLine(props: { scoring: Scoring; label: string; children: ComponentChildren }) {
  const { scoring, label, children } = props;
  const { rows, problem } = scoring;
  if (rows === null) return null;
  const words = `${whole(rows.done)} of ${whole(rows.total)} rows`;
  if (problem !== null)
    return (
      <div class="note alarm" role="alert">
        <p>
          <strong>{problem.message}</strong> {problem.advice} {words} are scored, and kept.
        </p>
        {children}
      </div>
    );
  return (
    <div class="note" role="status">
      <p class="progress-line">
        <progress aria-label={label} max={rows.total} value={rows.done} />
        <span>
          {label}: {words}
        </span>
      </p>
      {children}
    </div>
  );
}

/** How many rows of each label got which class; those on the diagonal are right. @param props.title also its heading. */
export function Confusion({ title, table }: { title: string; table: ConfusionTable }) {
  const { labels, counts } = table;
  return (
    <div class="confusion">
      <h4>{title}</h4>
      <Table label={title} columns={['Label', ...labels.map((label) => ({ right: label }))]}>
        {labels.map((label, row) => (
          <tr key={label}>
            <th scope="row">{label}</th>
            {labels.map((got, at) => {
              const count = whole(counts[row]?.[at] ?? 0);
              return (
                <td key={got} class="right">
                  {row === at ? <strong>{count}</strong> : count}
                </td>
              );
            })}
          </tr>
        ))}
      </Table>
    </div>
  );
}
