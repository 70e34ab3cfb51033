import { useEffect, useState, useId } from 'preact/hooks';
import type { NameView } from '../../../protocol/admin-api/names.ts';
import { nameProblem } from '../../../protocol/identity.ts';
import type { Client } from '../../api/client.ts';
import { type Checked, checkFile, publishFile, type PublishWish } from '../../api/publish-file.ts';
import type { Problem } from '../../model/problem.ts';
import { hashOf } from '../../model/view.ts';
import { bytes } from '../../model/words.ts';
import { suggestName } from '../../model/names.ts';
import { CheckField, Field, Suggestions } from '../../parts/fields.tsx';
import { useModal } from '../../parts/dialog.tsx';
import { ProblemNote, toast } from '../../parts/notes.tsx';
import { FolderOpen } from 'lucide';
import { Icon } from '../../parts/icon.tsx';

/** Takes an adapter's files, checks them in the page, shows what would happen, and publishes them. */
export function PublishDialog(props: {
  client: Client;
  files: readonly File[];
  name: string;
  names: readonly NameView[];
  onClose: () => void;
  onPublished: () => void;
}) {
  const { client, names, onClose, onPublished } = props;
  const [wish, setWish] = useState<PublishWish>({
    ...{ files: props.files, name: props.name, parent: '', stage: false, bf16: false, why: '' },
  });
  const [checked, setChecked] = useState<Checked | null>(null);
  const [sent, setSent] = useState<number | null>(null);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const modal = useModal(busy, () => close());
  const close = () => {
    modal.close();
    onClose();
  };
  const set = (part: Partial<PublishWish>) => {
    setWish((before) => ({ ...before, ...part }));
    setProblem(null);
    // The reason does not affect the checks.
    if (Object.keys(part).some((field) => field !== 'why')) setChecked(null);
  };
  // Files may also be dropped while it is open.
  useEffect(() => {
    if (props.files.length > 0 && !busy) set({ files: props.files });
  }, [props.files]);
  const wrongName = wish.name === '' ? null : nameProblem(wish.name);
  const run = async () => {
    if (busy) return;
    setBusy(true);
    setProblem(null);
    if (checked === null) {
      const found = await checkFile(client, wish);
      if (found.ok) setChecked(found.value);
      else setProblem(found.error);
    } else {
      const published = await publishFile(client, wish, checked, setSent);
      if (published.ok) {
        const { name, version, live } = published.value;
        toast(`${name}@${version} is ${live ? 'live' : 'staged'}.`);
        close();
        onPublished();
        location.hash = hashOf({ at: 'adapters', name });
        return;
      }
      setSent(null);
      setProblem(published.error);
    }
    setBusy(false);
  };
  const total = checked?.file.packed.bytes.length ?? 0;
  return (
    <dialog {...modal.dialog} class="roomy" aria-labelledby="publish-title">
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void run();
        }}
      >
        <h2 id="publish-title">Publish an adapter</h2>
        <FileField
          files={wish.files}
          problem={problem?.param === 'files' ? problem.message : undefined}
          onFiles={(files) => set({ files })}
        />
        <div class="pair">
          <Field label="Name" problem={wrongName === null ? undefined : sentence(wrongName)}>
            {(aria) => (
              <input
                {...aria}
                value={wish.name}
                list="published-names"
                placeholder="team/first"
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => set({ name: event.currentTarget.value.trim() })}
              />
            )}
          </Field>
          <Field
            label="Trained on top of"
            problem={problem?.param === 'parent' ? problem.message : undefined}
            hint="Empty = on the base."
          >
            {(aria) => (
              <input
                {...aria}
                value={wish.parent}
                list="published-names"
                placeholder="the base"
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => set({ parent: event.currentTarget.value.trim() })}
              />
            )}
          </Field>
        </div>
        <Suggestions id="published-names" of={names.filter(({ alias }) => alias === null).map(suggestName)} />
        <CheckField
          label="Stage it: the live version stays live until you promote this one"
          begin={wish.stage}
          onChange={(stage) => set({ stage })}
        />
        <CheckField
          label="Round the weights to bfloat16: half the size of float32"
          begin={wish.bf16}
          onChange={(bf16) => set({ bf16 })}
        />
        <label class="field">
          <span>Reason, for the history (optional)</span>
          <input
            value={wish.why}
            maxLength={500}
            autocomplete="off"
            onInput={(event) => set({ why: event.currentTarget.value })}
          />
        </label>
        {checked !== null && <PublishPlanNote checked={checked} />}
        {sent !== null && (
          <p class="hint">
            <progress max={total} value={sent} /> {bytes(sent)} of {bytes(total)}
            {sent === total && '; an origin tests it'}
          </p>
        )}
        {problem !== null && problem.param !== 'files' && problem.param !== 'parent' && (
          <ProblemNote problem={problem} />
        )}
        <div class="actions end">
          <button type="button" class="quiet" disabled={busy} onClick={close}>
            Cancel
          </button>
          <button
            type="submit"
            class="main"
            disabled={busy || wish.files.length === 0 || wish.name === '' || wrongName !== null}
          >
            {checked === null ? (busy ? 'Checking …' : 'Check') : busy ? 'Publishing …' : 'Publish'}
          </button>
        </div>
      </form>
    </dialog>
  );
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

/** The plan of publishing. */
function PublishPlanNote({ checked }: { checked: Checked }) {
  const { plan, file, training } = checked;
  const { packed, base } = file;
  const becomes = plan.exists
    ? `This is ${plan.name}@${plan.version}, which exists already.`
    : `It becomes ${plan.name}@${plan.version}, ${plan.stage ? 'staged' : 'live at once'}${
        plan.from === null || plan.stage ? '' : `, replacing version ${plan.from}`
      }.`;
  return (
    <div class="note good" role="status">
      <p>
        <strong>{becomes}</strong> Rank {plan.rank}, {packed.modules.length} modules,{' '}
        {bytes(packed.bytes.length)}; for {base.id}
        {plan.parent !== null && `, on top of ${plan.parent}`}. {bytes(plan.bytes_to_send)} to send
        {plan.trial && ', then an origin tests it'}.
        {plan.instead_of !== null &&
          ` So far ${plan.instead_of} answers requests for this name; from then on this version does.`}
        {training !== null &&
          ` Its training card goes with it: ${training.rows.trained} rows, ${training.steps} steps.`}
        {plan.notice !== undefined && ` ${plan.notice}`}
        {packed.warnings.map((warning) => ` Warning: ${warning}`)}
      </p>
    </div>
  );
}

/** Chosen or dropped files. */
function FileField(props: {
  files: readonly File[];
  problem: string | undefined;
  onFiles: (files: File[]) => void;
}) {
  const { files, problem } = props;
  const id = useId();
  return (
    <div class="field files">
      <label class="button">
        <Icon of={FolderOpen} />
        Choose files
        <input
          type="file"
          multiple
          aria-invalid={problem !== undefined}
          aria-describedby={id}
          onChange={(event) => props.onFiles([...(event.currentTarget.files ?? [])])}
        />
      </label>
      <p id={id} class={problem === undefined ? 'hint' : 'wrong'}>
        {problem ??
          (files.length === 0
            ? 'adapter_model.safetensors and adapter_config.json of PEFT, or one .safetensors or .gguf file.'
            : files.map(({ name, size }) => `${name} (${bytes(size)})`).join(', '))}
      </p>
    </div>
  );
}
