import type { VersionView } from '../../protocol/admin-api/versions.ts';
import { VERSION_STATE_WORDS, versionState } from '../../protocol/state-words.ts';
import { ago, percent } from '../model/words.ts';

/** More are typed. */
const MAX_SHOWN = 8;

/** A name's versions to choose one of, the newest first. */
export function VersionChoices(props: {
  /** Of what the choice is, such as `Control`. */
  label: string;
  versions: readonly VersionView[];
  live: number | null;
  /** By the name's history, as far as it was read. */
  wasLive: ReadonlySet<number>;
  /** What is in the field. */
  chosen: string;
  onChoose: (version: string) => void;
}) {
  const { label, versions, live, wasLive, chosen, onChoose } = props;
  const usable = versions.filter((one) => one.retired_at === null && one.withdrawn_at === null);
  if (usable.length === 0) return null;
  return (
    <div class="versions" role="group" aria-label={`Versions for ${label.toLowerCase()}`}>
      {usable.slice(0, MAX_SHOWN).map((one) => {
        const version = String(one.version);
        const state = VERSION_STATE_WORDS[versionState(one, live, wasLive.has(one.version))];
        const score = one.evaluation === null ? '' : `, ${percent(one.evaluation.exact_match)} exact`;
        return (
          <button
            key={version}
            type="button"
            aria-pressed={chosen.trim() === version}
            title={`Rank ${one.rank}, made ${ago(one.created_at, Date.now())} by ${one.created_by}`}
            onClick={() => onChoose(version)}
          >
            {version} <span class="hint">{`${state}${score}`}</span>
          </button>
        );
      })}
    </div>
  );
}
