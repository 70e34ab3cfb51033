import { Plus } from 'lucide';
import { useEffect, useState } from 'preact/hooks';
import type { EvaluationView, VersionScore } from '../../../protocol/admin-api/evaluations.ts';
import type { VersionList } from '../../../protocol/admin-api/versions.ts';
import { missingScores, versionsToScore } from '../../../protocol/evaluation-scores.ts';
import type { Client } from '../../api/client.ts';
import { bytes, moment, number, percent } from '../../model/words.ts';
import { useLoad } from '../../parts/hooks.ts';
import { Icon } from '../../parts/icon.tsx';
import { toast } from '../../parts/notes.tsx';
import { ScoringLine, useScoring } from '../../parts/scoring.tsx';
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
  const score = async (wanted: readonly number[]) => {
    setAsked(wanted);
    const scored = await scoring.start(
      wanted.flatMap((version) =>
        missingScores(data, version).map((one) => ({ ...one, adapter: `${name}@${version}` })),
      ),
    );
    // After a failure too: some rows are scored.
    await evaluated.reload();
    if (scored !== null) toast(`${versionWords(wanted)} ${wanted.length === 1 ? 'is' : 'are'} scored.`);
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
      {evaluations.length === 0 ? (
        <p class="hint">
          There are none. Add rows with expected answers, or with a judge, to score each version on them.
        </p>
      ) : (
        <p class="hint">
          {evaluations.every(({ judge }) => judge === null)
            ? 'Rows answered exactly as expected. '
            : 'Rows answered exactly as expected, or accepted by a judge. '}
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

/** @returns such as `Version 3`, `Versions 3 and 2`. */
const versionWords = (versions: readonly number[]): string =>
  versions.length === 1
    ? `Version ${versions[0]}`
    : `Versions ${versions.slice(0, -1).join(', ')} and ${versions.at(-1)}`;

function ScoreCell(props: { evaluation: EvaluationView; score: VersionScore | undefined; isLive: boolean }) {
  const { evaluation, score, isLive } = props;
  const { rows } = evaluation;
  return (
    <td class="right" data-label={evaluation.label}>
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
            {score.judge !== null && ' accepted'}
            {score.unclear > 0 && `, ${number(score.unclear)} unclear`}
            {!isLive && score.against_live !== null && `, ${againstLive(score.against_live)}`}
          </span>
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
