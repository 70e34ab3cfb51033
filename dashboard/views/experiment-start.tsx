import { useEffect, useState } from 'preact/hooks';
import type { Experiment } from '../../protocol/experiment.ts';
import { variantScores, type VariantScore } from '../../protocol/evaluation-scores.ts';
import type { Client } from '../api/client.ts';
import { macroF1Words, scoresTitle } from '../model/evaluation-words.ts';
import type { Problem } from '../model/problem.ts';
import { whole } from '../model/words.ts';
import { ProblemNote } from '../parts/notes.tsx';
import { Confusion, ScoringLine, useScoring } from '../parts/scoring.tsx';
import { Table } from '../parts/table.tsx';

/**
 * Scores the variants of an experiment on the kept evaluations of its name before it starts. Shows nothing while it
 * looks whether there are some.
 * @param props.onReady called once, with the scores: none if the name keeps no evaluations, or without them.
 */
export function ScoreVariants(props: {
  client: Client;
  document: Experiment;
  onReady: (scores: readonly VariantScore[]) => void;
  onLeave: () => void;
}) {
  const { client, document, onReady, onLeave } = props;
  const { name, variants } = document;
  const scoring = useScoring(client, name);
  const [problem, setProblem] = useState<Problem | null>(null);
  const score = async () => {
    setProblem(null);
    const list = await client.call('GET /admin/evaluations', { query: { name } });
    if (!list.ok) return setProblem(list.error);
    const { evaluations } = list.value;
    if (evaluations.length === 0) return onReady([]);
    const wanted = variants.flatMap(({ adapter }) =>
      evaluations.map(({ label, rows }) => ({ adapter, label, rows, scored: 0 })),
    );
    const scores = await scoring.start(wanted);
    if (scores !== null) onReady(variantScores(variants, evaluations, scores));
  };
  useEffect(() => void score(), []);
  const choices = (
    <span class="choices">
      {!scoring.running && (
        <button type="button" onClick={() => void score()}>
          Try again
        </button>
      )}
      <button type="button" onClick={onLeave}>
        {scoring.running ? 'Stop' : 'Cancel'}
      </button>
      <button type="button" onClick={() => onReady([])}>
        Start without scores
      </button>
    </span>
  );
  return (
    <section aria-label="Scores before the start">
      <ScoringLine scoring={scoring} label="Scoring the variants first">
        {choices}
      </ScoringLine>
      {problem !== null && (
        <>
          <ProblemNote problem={problem} />
          <div class="actions">{choices}</div>
        </>
      )}
    </section>
  );
}

/** In the question before the start: the scores, and a warning if a variant has fewer rows right than control. */
export function ScoresNote({ scores }: { scores: readonly VariantScore[] }) {
  if (scores.length === 0) return null;
  const worse = scores.filter((one) => one.worse);
  const evaluations = [...new Map(scores.map((one) => [one.label, one])).values()];
  const title = scoresTitle(evaluations);
  const variants = [...new Set(scores.map(({ variant }) => variant))];
  const confusions = scores.flatMap(({ label, variant, confusion }) =>
    confusion === null
      ? []
      : [
          <Confusion
            key={`${variant} ${label}`}
            title={`Classes that ${variant} gives ${label}`}
            table={confusion}
          />,
        ],
  );
  return (
    <>
      {worse.length > 0 && (
        <div class="note alarm" role="alert">
          <p>
            {worse.map(({ text }) => (
              <span key={text}>
                <strong>{text}.</strong>{' '}
              </span>
            ))}
          </p>
        </div>
      )}
      <Table label="Scores" columns={[title, ...variants.map((variant) => ({ right: variant }))]}>
        {evaluations.map(({ label, judge }) => (
          <tr key={label}>
            <th scope="row">
              {label}
              {judge !== null && <span class="hint"> by {judge}</span>}
            </th>
            {variants.map((variant) => {
              const score = scores.find((one) => one.label === label && one.variant === variant);
              return (
                <td key={variant} class={score?.worse === true ? 'right alarm' : 'right'}>
                  {score === undefined ? '–' : `${whole(score.exact)} of ${whole(score.rows)}`}
                  {score !== undefined && score.macro_f1 !== null && (
                    <>
                      <br />
                      <span class="hint">{macroF1Words(score.macro_f1)}</span>
                    </>
                  )}
                </td>
              );
            })}
          </tr>
        ))}
      </Table>
      {confusions.length > 0 && (
        <details>
          <summary>Which classes they give</summary>
          {confusions}
        </details>
      )}
    </>
  );
}
