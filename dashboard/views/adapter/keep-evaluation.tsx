import { useEffect, useId, useState } from 'preact/hooks';
import type { KeptRow } from '../../../protocol/admin-api/evaluations.ts';
import type { Client } from '../../api/client.ts';
import { judgeProblem, labelOf, labelProblem, readEvaluationRows } from '../../api/evaluation-rows.ts';
import type { Problem } from '../../model/problem.ts';
import { whole } from '../../model/words.ts';
import { useModal } from '../../parts/dialog.tsx';
import { Field } from '../../parts/fields.tsx';
import { FileButton } from '../../parts/file-button.tsx';
import { ProblemNote, toast } from '../../parts/notes.tsx';

const counted = (rows: number): string => `${whole(rows)} ${rows === 1 ? 'row' : 'rows'}`;

/** Keeps a file of rows for a name, after the checks of the command. @param props.labels that the name has. */
export function KeepEvaluation(props: {
  client: Client;
  name: string;
  /** Dropped ones; more may be dropped while it is open. */
  files: readonly File[];
  labels: readonly string[];
  onClose: () => void;
  onKept: () => void;
}) {
  const { client, name, files, labels } = props;
  const id = useId();
  const [file, setFile] = useState<File | null>(null);
  const [rows, setRows] = useState<readonly KeptRow[] | null>(null);
  const [judge, setJudge] = useState('');
  const [wrong, setWrong] = useState<string | null>(null);
  const [label, setLabel] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const close = () => {
    modal.close();
    props.onClose();
  };
  const modal = useModal(busy, close);
  const judged = judge !== '';
  const choose = (given: readonly File[]) => {
    const [chosen, ...others] = given;
    if (chosen === undefined || busy) return;
    setProblem(null);
    setFile(others.length > 0 ? null : chosen);
    setWrong(others.length > 0 ? 'Choose one file.' : null);
  };
  useEffect(() => choose(files), [files]);
  // A judge changes which rows are good.
  useEffect(() => {
    setRows(null);
    if (file === null) return;
    let isLate = false;
    void readEvaluationRows(file, judged).then((read) => {
      if (isLate) return;
      setWrong(read.ok ? null : read.error);
      if (!read.ok) return;
      setRows(read.value);
      setLabel((before) => (before === '' ? labelOf(file.name) : before));
    });
    return () => void (isLate = true);
  }, [file, judged]);
  const wrongLabel = label === '' ? null : labelProblem(label);
  const wrongJudge = judged ? judgeProblem(judge) : null;
  const keep = async () => {
    if (rows === null) return setWrong((before) => before ?? 'Choose a file of rows.');
    if (wrongLabel !== null || wrongJudge !== null || busy) return;
    setBusy(true);
    const body = { name, label, rows: [...rows], ...(judged ? { judge } : {}) };
    const kept = await client.call('POST /admin/evaluations', { body });
    setBusy(false);
    if (!kept.ok) return setProblem(kept.error);
    const by = kept.value.judge === null ? '' : `, judged by ${kept.value.judge}`;
    toast(`${name} keeps ${counted(kept.value.rows)} as ${kept.value.label}${by}.`);
    close();
    props.onKept();
  };
  return (
    <dialog {...modal.dialog} class="roomy" aria-labelledby={`${id}-title`}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          void keep();
        }}
      >
        <h2 id={`${id}-title`}>Add an evaluation to {name}</h2>
        <p>
          Rows with expected answers or a judge, on which versions are scored. They are stored encrypted until
          you remove them.
        </p>
        <div class="field files">
          <FileButton
            accept=".jsonl,.ndjson,.txt"
            isWrong={wrong !== null}
            describedBy={`${id}-file`}
            onFiles={choose}
          />
          <p id={`${id}-file`} role="status" class={wrong === null ? 'hint' : 'wrong'}>
            {wrong ??
              (file === null || rows === null ? (
                <>
                  Or drop it here: JSON Lines, such as <code>{'{"user": "…", "expected": "…"}'}</code>.
                </>
              ) : (
                `${file.name}: ${counted(rows.length)}.`
              ))}
          </p>
        </div>
        <Field
          label="Label"
          problem={wrongLabel ?? undefined}
          hint={
            labels.includes(label) ? `It replaces the rows of ${label}, which lose their scores.` : undefined
          }
        >
          {(aria) => (
            <input
              {...aria}
              value={label}
              required
              placeholder="holdout"
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => setLabel(event.currentTarget.value.trim())}
            />
          )}
        </Field>
        <Field
          label="Judge (optional)"
          problem={wrongJudge ?? undefined}
          hint={
            judged
              ? 'It accepts each answer or does not. "expected" is optional, and shown to it as a good answer.'
              : 'A model that judges answers: base, or a name. Without one, answers must be exactly as expected.'
          }
        >
          {(aria) => (
            <input
              {...aria}
              value={judge}
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => setJudge(event.currentTarget.value.trim())}
            />
          )}
        </Field>
        <ProblemNote problem={problem} />
        <div class="actions end">
          <button type="button" class="quiet" disabled={busy} onClick={close}>
            Cancel
          </button>
          <button type="submit" class="main" disabled={busy}>
            {busy ? 'Working …' : 'Keep the rows'}
          </button>
        </div>
      </form>
    </dialog>
  );
}
