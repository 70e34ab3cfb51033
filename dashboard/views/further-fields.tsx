import { EMPTY_FIELDS, type ExperimentFields, type FieldProblems } from '../model/experiment-form.ts';
import { Field } from '../parts/field.tsx';

/** What most experiments go without. */
export function FurtherFields(props: {
  fields: ExperimentFields;
  problems: FieldProblems;
  set: (part: Partial<ExperimentFields>) => void;
}) {
  const { fields, problems, set } = props;
  const judgedBy = (judge: string): Partial<ExperimentFields> => {
    // Judged pairs need nobody in the experiment, unless somebody says how many.
    if (fields.judge === '' && fields.coverage === EMPTY_FIELDS.coverage) return { judge, coverage: '0' };
    return judge === '' && fields.coverage === '0' ? { judge, coverage: EMPTY_FIELDS.coverage } : { judge };
  };
  return (
    <>
      <Field
        label="Judge (optional)"
        problem={problems.judge}
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
    </>
  );
}
