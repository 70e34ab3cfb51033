/** How a version was trained, as its publisher reports it. */
import { useMemo, useState } from 'preact/hooks';
import type { VersionView } from '../../../protocol/admin-api/versions.ts';
import { curveColumns, trainingFacts } from '../../model/training-card.ts';
import { LossChart } from '../../parts/charts.tsx';

/** Of the live version at first, else of the newest that has a card. Nothing when none has one. */
export function Training({ versions }: { versions: readonly VersionView[] }) {
  const [wanted, setWanted] = useState<number | null>(null);
  const carded = versions.flatMap(({ training, version, live, chain }) =>
    training === null ? [] : [{ training, version, live, chain }],
  );
  const chosen =
    carded.find(({ version }) => version === wanted) ?? carded.find(({ live }) => live) ?? carded[0];
  // The list is read every few seconds: the same card is the same curve.
  const curve = JSON.stringify(chosen?.training.curve ?? []);
  const columns = useMemo(() => curveColumns(chosen?.training.curve ?? []), [curve]);
  if (chosen === undefined) return null;
  return (
    <section aria-label="Training" class="training">
      <div class="title">
        <h3>Training</h3>
        {carded.length > 1 && (
          <label class="inline">
            <span>Version</span>{' '}
            <select value={chosen.version} onChange={(event) => setWanted(Number(event.currentTarget.value))}>
              {carded.map(({ version, live }) => (
                <option key={version} value={version}>
                  {version}
                  {live && ' (live)'}
                </option>
              ))}
            </select>
          </label>
        )}
      </div>
      <p class="hint">Of version {chosen.version}, as its publisher reports it.</p>
      <dl class="figures">
        {trainingFacts(chosen.training, chosen.chain).map(({ name, value, whole }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd title={whole}>{value}</dd>
          </div>
        ))}
      </dl>
      <LossChart columns={columns} />
    </section>
  );
}
