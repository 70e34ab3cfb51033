import { Plus } from 'lucide';
import { useEffect, useState } from 'preact/hooks';
import type { EvaluationView, VersionScore } from '../../../protocol/admin-api/evaluations.ts';
import type { VersionList } from '../../../protocol/admin-api/versions.ts';
import { type ConfusionTable, MAX_CONFUSION_CLASSES } from '../../../protocol/confusion.ts';
import { missingScores, versionsToScore } from '../../../protocol/evaluation-scores.ts';
import type { Client } from '../../api/client.ts';
import { countedRows, macroF1Words } from '../../model/evaluation-words.ts';
import type { Problem } from '../../model/problem.ts';
import { bytes, moment, number, percent } from '../../model/words.ts';
import { useLoad } from '../../parts/hooks.ts';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote, toast } from '../../parts/notes.tsx';
import { Confusion, ScoringLine, useScoring } from '../../parts/scoring.tsx';
import { Table } from '../../parts/table.tsx';
import { KeepEvaluation } from './keep-evaluation.tsx';

/** How often the scores are read again, ms: a command may be scoring. */
const RELOAD_MS = 15_000;

/**
 * Scores of the versions on the name's kept evaluations; only for its owner.
 * @param props.dropped files of rows, to be kept.
 */
export function Evaluations(props: { client: Client; list: VersionList; dropped: readonly File[] }) {
  const { client, list, dropped } = props;
  const { name } = list;
  const evaluated = useLoad(
    `evaluations ${name}`,
    () => client.call('GET /admin/evaluations', { query: { name } }),
    RELOAD_MS,
  );
  const scoring = useScoring(client, name);
  const [asked, setAsked] = useState<readonly number[]>([]);
  const [confused, setConfused] = useState<readonly Confused[]>([]);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [keeping, setKeeping] = useState<readonly File[] | null>(null);
  useEffect(() => {
    if (dropped.length > 0) setKeeping(dropped);
  }, [dropped]);
  const { data } = evaluated;
  const dialog = keeping !== null && (
    <KeepEvaluation
      {...{ client, name, files: keeping }}
      labels={(data?.evaluations ?? []).map(({ label }) => label)}
      onClose={() => setKeeping(null)}
      onKept={() => void evaluated.reload()}
    />
  );
  // Another owner's: the edge says so to who drops rows.
  if (data === null) return <>{dialog}</>;
  const { evaluations, scores, live } = data;
  const usable = versionsToScore(list).map(({ version }) => version);
  const versions = [...new Set([...usable, ...scores.map(({ version }) => version)])].toSorted(
    (a, b) => b - a,
  );
  const lacking = usable.filter((version) => missingScores(data, version).length > 0);
  const score = async (versionsAsked: readonly number[]) => {
    setAsked(versionsAsked);
    setProblem(null);
    const wanted = versionsAsked.flatMap((version) =>
      missingScores(data, version).map((one) => ({ ...one, version, adapter: `${name}@${version}` })),
    );
    const scored = await scoring.start(wanted);
    if (scored !== null)
      setConfused(
        scored.flatMap(({ label, sha256, confusion }, i) =>
          confusion === null ? [] : [{ version: wanted[i]!.version, label, sha256, table: confusion }],
        ),
      );
    // After a failure too: some rows are scored.
    await evaluated.reload();
    if (scored !== null)
      toast(`${versionWords(versionsAsked)} ${versionsAsked.length === 1 ? 'is' : 'are'} scored.`);
  };
  /** A complete score is returned without asking an origin. */
  const showClasses = async (version: number, label: string) => {
    const body = { name, label, adapter: `${name}@${version}` };
    const answer = await client.call('POST /admin/evaluations/score', { body });
    setProblem(answer.ok ? null : answer.error);
    if (!answer.ok) return;
    const { sha256, confusion } = answer.value;
    if (confusion === null) return toast(`${label} has more than ${MAX_CONFUSION_CLASSES} classes.`);
    setConfused([{ version, label, sha256, table: confusion }]);
  };
  return (
    <section aria-label="Evaluations">
      <div class="title">
        <h3>Evaluations</h3>
        <button type="button" class="small" disabled={scoring.running} onClick={() => setKeeping([])}>
          <Icon of={Plus} />
          Add rows
        </button>
        {lacking.length > 1 && !scoring.running && (
          <button type="button" class="small" onClick={() => void score(lacking)}>
            Score all
          </button>
        )}
      </div>
      <ScoringLine scoring={scoring} label={`Scoring ${versionWords(asked).toLowerCase()}`}>
        {scoring.running ? (
          <button type="button" onClick={scoring.stop}>
            Stop
          </button>
        ) : (
          <button type="button" onClick={() => void score(asked)}>
            Try again
          </button>
        )}
      </ScoringLine>
      {evaluations.length > 0 && versions.length > 0 && (
        <Table
          label="Scores"
          asCards
          columns={[
            'Version',
            ...evaluations.map(({ label }) => ({ right: label })),
            ...(lacking.length > 0 ? [''] : []),
          ]}
        >
          {versions.map((version) => (
            <tr key={version}>
              <th scope="row" class="nowrap">
                {version} {version === live && <span class="state live">live</span>}
              </th>
              {evaluations.map((evaluation) => (
                <ScoreCell
                  key={evaluation.label}
                  evaluation={evaluation}
                  score={scores.find((one) => one.version === version && one.label === evaluation.label)}
                  isLive={version === live}
                  onClasses={() => void showClasses(version, evaluation.label)}
                />
              ))}
              {lacking.length > 0 && (
                <td class="right act">
                  {lacking.includes(version) && (
                    <button
                      type="button"
                      disabled={scoring.running}
                      aria-label={`Score version ${version}`}
                      onClick={() => void score([version])}
                    >
                      Score
                    </button>
                  )}
                </td>
              )}
            </tr>
          ))}
        </Table>
      )}
      <ProblemNote problem={problem} />
      {confused
        // Rows that were replaced meanwhile have no scores.
        .filter(({ sha256 }) => evaluations.some((one) => one.sha256 === sha256))
        .map(({ version, label, table }) => (
          <Confusion
            key={`${version} ${label}`}
            title={`Classes that version ${version} gives ${label}`}
            table={table}
          />
        ))}
      {evaluations.length === 0 ? (
        <p class="hint">
          There are none. Add rows with expected answers, with labels or with a judge, to score each version
          on them.
        </p>
      ) : (
        <p class="hint">
          {countedRows(evaluations)}{' '}
          {evaluations.map(({ label, judge, rows, bytes: size, created_at: at }, i) => (
            <span key={label} title={moment(at)}>
              {i > 0 && ', '}
              {label}: {number(rows)} rows, {bytes(size)}
              {judge !== null && `, judged by ${judge}`}
            </span>
          ))}
          .
        </p>
      )}
      {dialog}
    </section>
  );
}

/** Which classes a version gives the rows of an evaluation. */
interface Confused {
  version: number;
  label: string;
  /** Of the evaluation. */
  sha256: string;
  table: ConfusionTable;
}

/** @returns such as `Version 3`, `Versions 3 and 2`. */
const versionWords = (versions: readonly number[]): string =>
  versions.length === 1
    ? `Version ${versions[0]}`
    : `Versions ${versions.slice(0, -1).join(', ')} and ${versions.at(-1)}`;

function ScoreCell(props: {
  evaluation: EvaluationView;
  score: VersionScore | undefined;
  isLive: boolean;
  onClasses: () => void;
}) {
  const { evaluation, score, isLive } = props;
  const { label, rows } = evaluation;
  return (
    <td class="right" data-label={label}>
      {score === undefined ? (
        '–'
      ) : score.scored < rows ? (
        <span class="hint">
          {number(score.scored)} of {number(rows)} scored
        </span>
      ) : (
        <>
          {percent(score.exact / rows)}
          <br />
          <span class="hint">
            {number(score.exact)} of {number(rows)}
            {score.labelled ? ' right' : score.judge !== null && ' accepted'}
            {score.macro_f1 !== null && `, ${macroF1Words(score.macro_f1)}`}
            {score.unclear > 0 && `, ${number(score.unclear)} unclear`}
            {!isLive && score.against_live !== null && `, ${againstLive(score.against_live)}`}
          </span>
          {score.labelled && (
            <>
              {' '}
              <button
                type="button"
                aria-label={`Classes that version ${score.version} gives ${label}`}
                onClick={props.onClasses}
              >
                Classes
              </button>
            </>
          )}
        </>
      )}
    </td>
  );
}

/** @returns such as `3 that live misses, misses 1 that live has`. */
function againstLive({ better, worse }: NonNullable<VersionScore['against_live']>): string {
  if (better === 0 && worse === 0) return 'the same rows as live';
  return [
    ...(better === 0 ? [] : [`${number(better)} that live misses`]),
    ...(worse === 0 ? [] : [`misses ${number(worse)} that live has`]),
  ].join(', ');
}
