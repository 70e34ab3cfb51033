import { useEffect, useId, useState } from 'preact/hooks';
import type { EvaluationRow } from '../../../protocol/origin-wire.ts';
import type { Client } from '../../api/client.ts';
import { labelOf, labelProblem, readEvaluationRows } from '../../api/evaluation-rows.ts';
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
  const [chosen, setChosen] = useState<{ file: string; rows: readonly EvaluationRow[] } | null>(null);
  const [wrong, setWrong] = useState<string | null>(null);
  const [label, setLabel] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const close = () => {
    modal.close();
    props.onClose();
  };
  const modal = useModal(busy, close);
  const choose = async (given: readonly File[]) => {
    const [file, ...others] = given;
    if (file === undefined || busy) return;
    setProblem(null);
    setChosen(null);
    if (others.length > 0) return setWrong('Choose one file.');
    const read = await readEvaluationRows(file);
    setWrong(read.ok ? null : read.error);
    if (!read.ok) return;
    setChosen({ file: file.name, rows: read.value });
    setLabel((before) => (before === '' ? labelOf(file.name) : before));
  };
  useEffect(() => void choose(files), [files]);
  const wrongLabel = label === '' ? null : labelProblem(label);
  const keep = async () => {
    if (chosen === null) return setWrong((before) => before ?? 'Choose a file of rows.');
    if (wrongLabel !== null || busy) return;
    setBusy(true);
    const body = { name, label, rows: [...chosen.rows] };
    const kept = await client.call('POST /admin/evaluations', { body });
    setBusy(false);
    if (!kept.ok) return setProblem(kept.error);
    toast(`${name} keeps ${counted(kept.value.rows)} as ${kept.value.label}.`);
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
          Rows with expected answers, on which versions are scored. They are stored encrypted until you remove
          them.
        </p>
        <div class="field files">
          <FileButton
            accept=".jsonl,.ndjson,.txt"
            isWrong={wrong !== null}
            describedBy={`${id}-file`}
            onFiles={(files) => void choose(files)}
          />
          <p id={`${id}-file`} role="status" class={wrong === null ? 'hint' : 'wrong'}>
            {wrong ??
              (chosen === null ? (
                <>
                  Or drop it here: JSON Lines, such as <code>{'{"user": "…", "expected": "…"}'}</code>.
                </>
              ) : (
                `${chosen.file}: ${counted(chosen.rows.length)}.`
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
