import { GraduationCap } from 'lucide';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { VersionList } from '../../../protocol/admin-api/versions.ts';
import { liveOnce } from '../../../protocol/state-words.ts';
import type { RowsHead } from '../../../protocol/training-rows.ts';
import { type Client, readChanges, readNames } from '../../api/client.ts';
import { checkRows, createJob, listJobs, sendRows, type CheckedRows } from '../../api/training.ts';
import { suggestName, suggestVersions } from '../../model/names.ts';
import type { Problem } from '../../model/problem.ts';
import {
  BASE,
  fieldAt,
  FOLDED,
  jobRequest,
  prefilled,
  type TrainingFields,
  type TrainingProblems,
} from '../../model/training-form.ts';
import { missingRight } from '../../model/training-jobs.ts';
import { hashOf } from '../../model/view.ts';
import { bytes, whole } from '../../model/words.ts';
import { DropZone } from '../../parts/drop-zone.tsx';
import { Choices, Field, Suggestions } from '../../parts/fields.tsx';
import { useLoad } from '../../parts/hooks.ts';
import { FileButton } from '../../parts/file-button.tsx';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote, toast } from '../../parts/notes.tsx';
import { Table } from '../../parts/table.tsx';
import { TrainingProblem } from './trainings.tsx';

/** @param props.query what the address prefills: `name`, and the `parent` that a new version of it is trained on. */
export function NewTrainingView({ client, query }: { client: Client; query: string }) {
  const mayTrain = useLoad('may train', () => listJobs(client, null, 1));
  const mayNot = mayTrain.problem !== null && missingRight(mayTrain.problem) !== null;
  return (
    <>
      <p class="back always">
        <a href={hashOf({ at: 'training' })}>All trainings</a>
      </p>
      <h1>Train an adapter</h1>
      {mayNot ? (
        <TrainingProblem problem={mayTrain.problem} onRetry={() => void mayTrain.reload()} />
      ) : (
        // Another address is another form.
        <TrainingForm key={query} client={client} query={query} />
      )}
    </>
  );
}

type Busy = 'checking' | 'sending' | 'starting';

function TrainingForm({ client, query }: { client: Client; query: string }) {
  const begin = prefilled(query);
  const [fields, setFields] = useState<TrainingFields>(begin);
  const [rows, setRows] = useState<CheckedRows | null>(null);
  const [problems, setProblems] = useState<TrainingProblems>({});
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState<Busy | null>(null);
  /** A request that is refused is corrected without sending the rows again. */
  const sent = useRef<{ rows: CheckedRows; id: string } | null>(null);
  const turn = useRef(0);
  const isShown = useRef(true);
  useEffect(() => () => void (isShown.current = false), []);
  const names = useLoad('names', () => readNames(client));
  const [of = ''] = fields.parent.split('@');
  const entries = names.data?.entries ?? [];
  const isKnown = entries.some(({ name }) => name === of);
  const versions = useLoad(isKnown ? `versions ${of}` : null, () =>
    client.call('GET /admin/versions', { query: { name: of }, as: VersionList }),
  );
  const history = useLoad(isKnown ? `history ${of}` : null, () => readChanges(client, of));
  const wasLive = liveOnce(history.data?.changes ?? []);
  const set = (part: Partial<TrainingFields>) => {
    setFields((before) => ({ ...before, ...part }));
    setProblems({});
    setProblem(null);
  };
  const check = async (file: File, method: 'sft' | 'dpo' | null) => {
    const mine = ++turn.current;
    setBusy('checking');
    setProblems({});
    const checked = await checkRows(file, method);
    // Another file was chosen meanwhile.
    if (turn.current !== mine) return;
    setBusy(null);
    setRows(checked);
    set({ method: checked.method === 'dpo' ? 'dpo' : 'supervised' });
  };
  const choose = (files: readonly File[]) => {
    const [file, ...others] = files;
    if (file === undefined || (busy !== null && busy !== 'checking')) return;
    if (others.length > 0) setProblems({ file: 'Choose one file.' });
    else void check(file, null);
  };
  const start = async () => {
    if (busy !== null) return;
    const isReady = rows !== null && rows.problemCount === 0;
    const wanted = jobRequest(fields, SOME_FILE);
    if (!isReady || !wanted.ok)
      return setProblems({
        ...(wanted.ok ? {} : wanted.error),
        ...(rows === null ? { file: 'Choose a file of rows.' } : {}),
      });
    setProblem(null);
    setBusy('sending');
    if (sent.current?.rows !== rows) {
      const file = await sendRows(client, rows);
      if (!file.ok) {
        setBusy(null);
        return setProblem(file.error);
      }
      sent.current = { rows, id: file.value };
    }
    setBusy('starting');
    const created = await createJob(client, { ...wanted.value, training_file: sent.current.id });
    setBusy(null);
    if (created.ok) {
      // Whoever has left the form meanwhile stays where they are.
      if (isShown.current) location.hash = hashOf({ at: 'training', id: created.value.id });
      else toast(`The training of ${created.value.graft.name} is created.`);
      return;
    }
    setProblem(created.error);
    const { param } = created.error;
    if (param !== null) setProblems({ [fieldAt(param.split('.'))]: created.error.message });
  };
  const isBad = rows !== null && rows.problemCount > 0;
  return (
    <DropZone invites="Drop a file of rows to train on them" onFiles={choose}>
      <form
        class="form"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void start();
        }}
      >
        <RowsField rows={rows} isChecking={busy === 'checking'} problem={problems.file} onFiles={choose} />
        {begin.name !== '' && (
          <div class="becomes">
            <Choices
              label="What it becomes"
              of={[
                ['again', `A new version of ${begin.name}`],
                ['below', `An adapter on top of ${begin.name}`],
              ]}
              value={
                fields.parent === begin.name || fields.parent.startsWith(`${begin.name}@`) ? 'below' : 'again'
              }
              onChoose={(kind) =>
                set(
                  kind === 'again'
                    ? { name: begin.name, parent: begin.parent }
                    : { name: `${begin.name}/`, parent: begin.name },
                )
              }
            />
          </div>
        )}
        <div class="pair">
          <Field
            label="Train on"
            problem={problems.parent}
            hint="The base, a name (its live version), or name@version."
          >
            {(aria) => (
              <input
                {...aria}
                list="parents"
                value={fields.parent}
                placeholder={BASE}
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => set({ parent: event.currentTarget.value.trim() })}
              />
            )}
          </Field>
          <Field
            label="Name of the result"
            problem={problems.name}
            hint="A name that exists gets a new version, which is staged."
          >
            {(aria) => (
              <input
                {...aria}
                list="results"
                value={fields.name}
                placeholder="team/notes"
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => set({ name: event.currentTarget.value.trim() })}
              />
            )}
          </Field>
        </div>
        <Suggestions
          id="parents"
          of={[
            { value: BASE, about: '' },
            ...entries.map(suggestName),
            ...(versions.data === null
              ? []
              : suggestVersions(versions.data, wasLive, ({ name, version }) => `${name}@${version}`)),
          ]}
        />
        <Suggestions id="results" of={entries.filter(({ alias }) => alias === null).map(suggestName)} />
        <div class="pair">
          <Field label="Method" problem={problems.method} hint="What the rows have: one answer each, or two.">
            {(aria) => (
              <select
                {...aria}
                value={fields.method}
                onChange={(event) => {
                  const method = event.currentTarget.value as TrainingFields['method'];
                  set({ method });
                  if (rows !== null) void check(rows.file, method === 'dpo' ? 'dpo' : 'sft');
                }}
              >
                <option value="supervised">Answers (SFT)</option>
                <option value="dpo">Preferences (DPO)</option>
              </select>
            )}
          </Field>
          <NumberField
            of="epochs"
            label="Epochs"
            hint="How often each row is seen."
            {...{ fields, problems, set }}
          />
          <NumberField of="rank" label="Rank" hint="The adapter’s size." {...{ fields, problems, set }} />
        </div>
        <MoreSettings {...{ fields, problems, set }} />
        <ProblemNote problem={problem?.param == null ? problem : null} />
        <div class="actions">
          <button type="submit" class="main" disabled={busy !== null || isBad}>
            <Icon of={GraduationCap} />
            {busy === 'sending'
              ? 'Sending the rows …'
              : busy === 'starting'
                ? 'Starting …'
                : 'Start the training'}
          </button>
          <span class="hint">
            Users notice nothing before you promote the result. The rows are kept encrypted, for 30 days at
            most.
          </span>
        </div>
      </form>
    </DropZone>
  );
}

/** Until the rows are sent. */
const SOME_FILE = `file-${'0'.repeat(24)}`;

interface FieldsProps {
  fields: TrainingFields;
  problems: TrainingProblems;
  set: (part: Partial<TrainingFields>) => void;
}

function NumberField(
  props: FieldsProps & { of: keyof TrainingFields; label: string; hint?: string; placeholder?: string },
) {
  const { of, label, hint, placeholder, fields, problems, set } = props;
  return (
    <Field label={label} problem={problems[of]} hint={hint}>
      {(aria) => (
        <input
          {...aria}
          inputMode="decimal"
          value={fields[of]}
          placeholder={placeholder}
          autocomplete="off"
          onInput={(event) => set({ [of]: event.currentTarget.value })}
        />
      )}
    </Field>
  );
}

function MoreSettings(props: FieldsProps) {
  const { fields, problems } = props;
  const [isOpen, setOpen] = useState(false);
  const isWrong = FOLDED.some((field) => problems[field] !== undefined);
  return (
    <details
      class="settings"
      open={isOpen || isWrong}
      onToggle={(event) => setOpen(event.currentTarget.open)}
    >
      <summary>More settings</summary>
      <div class="pair">
        <NumberField
          {...props}
          of="factor"
          label="Learning rate factor"
          hint="1 = the usual rate of this base. Smaller learns less."
        />
        <NumberField {...props} of="batch" label="Rows a step" placeholder="chosen by the rows" />
        <NumberField {...props} of="leastSteps" label="Steps at least" hint="Few rows are seen more often." />
        <NumberField
          {...props}
          of="heldOut"
          label="Held out, percent of the rows"
          hint="Not trained on, but measured."
        />
        <NumberField {...props} of="maxLength" label="Longest row, tokens" hint="Longer rows are left out." />
        <NumberField {...props} of="seed" label="Seed" hint="The same one gives the same adapter." />
        <Field
          label="Checkpoints"
          problem={problems.checkpoints}
          hint="Earlier epochs become staged versions of their own."
        >
          {(aria) => (
            <select
              {...aria}
              value={fields.checkpoints}
              onChange={(event) =>
                props.set({ checkpoints: event.currentTarget.value as TrainingFields['checkpoints'] })
              }
            >
              <option value="none">The result alone</option>
              <option value="epochs">Also the last two epochs before it</option>
            </select>
          )}
        </Field>
        {fields.method === 'dpo' && (
          <NumberField {...props} of="beta" label="Beta" hint="Larger stays closer to what it trains on." />
        )}
      </div>
    </details>
  );
}

/** Problems that are shown; a file with more has one cause. */
const SHOWN = 20;

function RowsField(props: {
  rows: CheckedRows | null;
  isChecking: boolean;
  problem: string | undefined;
  onFiles: (files: readonly File[]) => void;
}) {
  const { rows, isChecking, problem } = props;
  const id = useId();
  const isBad = rows !== null && rows.problemCount > 0;
  return (
    <div class="field files rows-file">
      <FileButton
        accept=".jsonl,.ndjson,.json,.csv,.txt"
        isWrong={problem !== undefined || isBad}
        describedBy={id}
        onFiles={props.onFiles}
      />
      <div id={id} role="status" class={problem === undefined && !isBad ? 'hint' : 'wrong'}>
        {problem ?? (isChecking ? 'Checking the rows …' : <RowsWords rows={rows} />)}
      </div>
      {rows !== null && isBad && !isChecking && (
        <Table label="Problems of the rows" columns={[{ right: 'Line' }, 'Problem']}>
          {rows.problems.slice(0, SHOWN).map(({ line, problem: why }) => (
            <tr key={line}>
              <th scope="row" class="right">
                {line}
              </th>
              <td>{why}</td>
            </tr>
          ))}
        </Table>
      )}
    </div>
  );
}

/** Labels that are named. */
const LABELS_SHOWN = 6;

/** What rows without answers become. */
function headWords({ labels }: RowsHead): string {
  if (labels === null) return 'A head of one output, asked at /v1/score and /v1/rerank.';
  const more = labels.length - LABELS_SHOWN;
  const named = labels.slice(0, LABELS_SHOWN).join(', ');
  return `A classifier of ${whole(labels.length)} classes, asked at /v1/classify: ${named}${more > 0 ? ` and ${whole(more)} more` : ''}.`;
}

function RowsWords({ rows }: { rows: CheckedRows | null }) {
  if (rows === null)
    return (
      <>
        Or drop it here: JSON Lines or CSV, such as <code>{'{"user": "…", "expected": "…"}'}</code>, or{' '}
        <code>{'{"text": "…", "label": "…"}'}</code> for a classifier. It is checked in this page, and sent
        when you start the training.
      </>
    );
  const { file, good, problems, problemCount, method, head } = rows;
  const what = `${file.name} (${bytes(file.size)})`;
  if (problemCount === 0)
    return (
      <>
        {what}: {whole(good)} {good === 1 ? 'row' : 'rows'}
        {method === 'dpo' && ', each with a chosen and a rejected answer'}. {head !== null && headWords(head)}
      </>
    );
  const shown = Math.min(SHOWN, problems.length);
  return (
    <>
      {what}: {whole(problemCount)} {problemCount === 1 ? 'problem' : 'problems'}
      {problemCount > shown && `, the first ${shown} of them here`}. Correct the file and choose it again.
      Nothing has been sent.
    </>
  );
}
