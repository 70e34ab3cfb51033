import type { EvaluationView, VersionScore } from '../../../protocol/admin-api/evaluations.ts';
import type { Client } from '../../api/client.ts';
import { bytes, moment, number, percent } from '../../model/words.ts';
import { useLoad } from '../../parts/hooks.ts';
import { Table } from '../../parts/table.tsx';

/** How often the scores are read again, ms: a command may be scoring. */
const RELOAD_MS = 15_000;

/** Scores of the versions on the name's kept evaluations; only for its owner, and if it has some. */
export function Evaluations({ client, name }: { client: Client; name: string }) {
  const { data } = useLoad(
    `evaluations ${name}`,
    () => client.call('GET /admin/evaluations', { query: { name } }),
    RELOAD_MS,
  );
  if (data === null || data.evaluations.length === 0) return null;
  const { evaluations, scores, live } = data;
  const versions = [...new Set(scores.map(({ version }) => version))];
  return (
    <section aria-label="Evaluations">
      <h3>Evaluations</h3>
      {versions.length === 0 ? (
        <p class="hint">
          {evaluations.map(({ label, rows }) => `${label}: ${rows} rows`).join(', ')}. No version is scored
          yet: <code>graft eval {name}</code>
        </p>
      ) : (
        <Table label="Scores" columns={['Version', ...evaluations.map(({ label }) => ({ right: label }))]}>
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
            </tr>
          ))}
        </Table>
      )}
      <p class="hint">
        {'Rows answered exactly as expected. '}
        {evaluations.map(({ label, rows, bytes: size, created_at: at }, i) => (
          <span key={label} title={moment(at)}>
            {i > 0 && ', '}
            {label}: {number(rows)} rows, {bytes(size)}
          </span>
        ))}
        .
      </p>
    </section>
  );
}

function ScoreCell(props: { evaluation: EvaluationView; score: VersionScore | undefined; isLive: boolean }) {
  const { evaluation, score, isLive } = props;
  const { rows } = evaluation;
  return (
    <td class="right">
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
