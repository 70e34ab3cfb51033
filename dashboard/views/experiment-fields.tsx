import { useState } from 'preact/hooks';
import type { VersionView } from '../../protocol/admin-api/versions.ts';
import { VERSION_STATE_WORDS, versionState } from '../../protocol/state-words.ts';
import { EMPTY_FIELDS, type ExperimentFields, type FieldProblems } from '../model/experiment-form.ts';
import { ago, percent } from '../model/words.ts';
import { Field } from '../parts/fields.tsx';

type SetFields = (part: Partial<ExperimentFields>) => void;

/** Who compares answers, where nobody rates them. */
export function JudgeField(props: { fields: ExperimentFields; problem: string | undefined; set: SetFields }) {
  const { fields, set } = props;
  const judgedBy = (judge: string): Partial<ExperimentFields> => {
    // Judged pairs need nobody in the experiment, unless somebody says how many.
    if (fields.judge === '' && fields.coverage === EMPTY_FIELDS.coverage) return { judge, coverage: '0' };
    return judge === '' && fields.coverage === '0' ? { judge, coverage: EMPTY_FIELDS.coverage } : { judge };
  };
  return (
    <Field
      label="Judge (optional)"
      problem={props.problem}
      hint="base, a name, or your application’s https URL. It compares control’s answers with the treatment’s to a fifth of the requests; with a coverage of 0 users get control’s alone."
    >
      {(aria) => (
        <input
          {...aria}
          list="names"
          value={fields.judge}
          placeholder="base"
          autocomplete="off"
          spellcheck={false}
          onInput={(event) => set(judgedBy(event.currentTarget.value.trim()))}
        />
      )}
    </Field>
  );
}

/** What most experiments go without. */
export function RareFields(props: { fields: ExperimentFields; problems: FieldProblems; set: SetFields }) {
  const { fields, problems, set } = props;
  const isWrong = problems.expected !== undefined || problems.segmentBy !== undefined;
  const [isOpen, setOpen] = useState(false);
  return (
    <details
      class="settings"
      open={isOpen || isWrong}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>More</summary>
      <Field
        label="Users a day that you expect (optional)"
        problem={problems.expected}
        hint="For the plan alone, where no experiment of the name has counted them."
      >
        {(aria) => (
          <input
            {...aria}
            inputMode="numeric"
            value={fields.expected}
            autocomplete="off"
            onInput={(event) => set({ expected: event.currentTarget.value })}
          />
        )}
      </Field>
      <Field
        label="Results by (optional)"
        problem={problems.segmentBy}
        hint="tenant, name (what is below this one), or header:x-plan. It decides nothing."
      >
        {(aria) => (
          <input
            {...aria}
            value={fields.segmentBy}
            placeholder="tenant"
            autocomplete="off"
            spellcheck={false}
            onInput={(event) => set({ segmentBy: event.currentTarget.value.trim() })}
          />
        )}
      </Field>
      {fields.kind === 'mean' && (
        <label class="check">
          <input
            type="checkbox"
            checked={fields.capped}
            onChange={(event) => set({ capped: event.currentTarget.checked })}
          />
          <span>
            Cap it: values above control’s 99th percentile count as that, so that a few cannot decide
          </span>
        </label>
      )}
    </details>
  );
}

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
