import { useEffect, useState } from 'preact/hooks';
import { VersionList, type VersionView } from '../../protocol/admin-api/versions.ts';
import { AUTOMATIC_METRICS } from '../../protocol/experiment.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { liveOnce, VERSION_STATE_WORDS, versionState } from '../../protocol/state-words.ts';
import { type Client, readChanges } from '../api/client.ts';
import {
  createRequest,
  EMPTY_FIELDS,
  fieldAt,
  judgingName,
  type ExperimentFields,
  type FieldProblems,
} from '../model/experiment-form.ts';
import { suggestName, suggestVersions, type Suggestion } from '../model/names.ts';
import type { Problem } from '../model/problem.ts';
import { hashOf } from '../model/view.ts';
import { CheckField, Field, Suggestions } from '../parts/fields.tsx';
import { ProblemNote } from '../parts/notes.tsx';
import { useLoad } from '../parts/hooks.ts';
import { Outlook } from './experiment-results.tsx';
import { ago, percent } from '../model/words.ts';

const SIDES = [
  { field: 'control', label: 'Control', hint: 'Default: the live version.' },
  { field: 'treatment', label: 'Treatment', hint: 'Or a version of another name, as name@version.' },
] as const;

/** Of the metrics that the edge records itself. */
const METRIC_WORDS: Readonly<Record<string, string>> = {
  ttft_ms: 'time to first token, ms',
  latency_ms: 'time to the last byte, ms',
  output_tokens: 'tokens of an answer',
  error_rate: 'share of requests that fail',
  left_rate: 'share of answers that their client abandons',
  length_rate: 'share of answers cut off by their length',
  cost: 'cost of a request, by the price list',
};
const METRICS: readonly Suggestion[] = [
  { value: 'thumbs', about: 'your application reports it' },
  ...AUTOMATIC_METRICS.map(({ key }) => ({ value: key, about: METRIC_WORDS[key] ?? '' })),
];

/** @param props.query what the address prefills beside the name: the `treatment`. */
export function NewExperimentView(props: { client: Client; name: string; query: string }) {
  const { client, name } = props;
  const [fields, setFields] = useState<ExperimentFields>(() => ({
    ...{ ...EMPTY_FIELDS, name },
    treatment: new URLSearchParams(props.query).get('treatment') ?? EMPTY_FIELDS.treatment,
  }));
  const [problems, setProblems] = useState<FieldProblems>({});
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const set = (part: Partial<ExperimentFields>) => {
    setFields((before) => ({ ...before, ...part }));
    // An edited field loses its error; the name is a part of both versions.
    setProblems({});
  };
  // If one answer does not have all names, ask for those that begin with the typed text.
  const [isCut, setCut] = useState(false);
  const prefix = isCut ? fields.name : '';
  const names = useLoad(`names ${prefix}`, () => client.call('GET /admin/names', { query: { prefix } }));
  const hasMore = names.data?.cursor != null;
  useEffect(() => {
    if (hasMore) setCut(true);
  }, [hasMore]);
  const known = names.data?.names.find((entry) => entry.name === fields.name);
  const versions = useLoad(known === undefined ? null : `versions ${known.name}`, () =>
    client.call('GET /admin/versions', { query: { name: fields.name }, as: VersionList }),
  );
  // Which versions were live before; until known, they are labelled as staged.
  const history = useLoad(known === undefined ? null : `history ${known.name}`, () =>
    readChanges(client, fields.name),
  );
  // Control defaults to the live version.
  const live = versions.data?.version ?? null;
  const shown: ExperimentFields =
    fields.control === '' && live !== null ? { ...fields, control: String(live) } : fields;
  const wasLive = liveOnce(history.data?.changes ?? []);
  const automatic = AUTOMATIC_METRICS.find(({ key }) => key === fields.metric);

  const liveOf = async (of: string): Promise<number | null> => {
    const found = await client.call('GET /admin/versions', { query: { name: of }, as: VersionList });
    return found.ok ? found.value.version : null;
  };
  /** A judging name stands for its live version, from now on. */
  const judgeVersion = async ({ judge }: ExperimentFields): Promise<number | null> => {
    const judging = judgingName(judge);
    return judging === null ? null : liveOf(judging);
  };
  /** The form may be sent before the list of versions has arrived; it then means the live one. */
  const whole = async (): Promise<ExperimentFields> => {
    if (shown.control !== '' || nameProblem(shown.name) !== null) return shown;
    const found = await liveOf(shown.name);
    return found === null ? shown : { ...shown, control: String(found) };
  };
  const create = async () => {
    if (busy) return;
    setBusy(true);
    const given = await whole();
    const request = createRequest(given, await judgeVersion(given));
    setProblems(request.ok ? {} : request.error);
    if (!request.ok) return setBusy(false);
    const answer = await client.call('POST /admin/experiments', { body: request.value });
    setBusy(false);
    if (answer.ok) {
      location.hash = hashOf({ at: 'experiments', id: answer.value.id });
      return;
    }
    setProblem(answer.error);
    const { param } = answer.error;
    if (param !== null) setProblems({ [fieldAt(param.split(/[.[\]]+/))]: answer.error.message });
  };

  return (
    <>
      <p class="back always">
        <a href={hashOf({ at: 'experiments', id: null })}>All experiments</a>
      </p>
      <h1>New experiment</h1>
      <form
        class="form"
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void create();
        }}
      >
        <Field label="Name that applications call" problem={problems.name}>
          {(aria) => (
            <input
              {...aria}
              list="names"
              value={fields.name}
              placeholder="support/intent"
              autocomplete="off"
              spellcheck={false}
              onInput={(event) => set({ name: event.currentTarget.value.trim() })}
            />
          )}
        </Field>
        <Suggestions
          id="names"
          of={(names.data?.names ?? []).filter(({ alias }) => alias === null).map(suggestName)}
        />
        <Suggestions
          id="versions"
          of={
            versions.data === null
              ? []
              : suggestVersions(versions.data, wasLive, ({ version }) => String(version))
          }
        />
        <div class="pair">
          {SIDES.map(({ field, label, hint }) => (
            <div key={field}>
              <Field label={`${label}, version`} problem={problems[field]} hint={hint}>
                {(aria) => (
                  <input
                    {...aria}
                    list="versions"
                    value={fields[field]}
                    placeholder={field === 'control' && live !== null ? String(live) : '4'}
                    autocomplete="off"
                    onInput={(event) => set({ [field]: event.currentTarget.value })}
                  />
                )}
              </Field>
              <VersionChoices
                label={label}
                versions={versions.data?.versions ?? []}
                live={live}
                wasLive={wasLive}
                chosen={shown[field]}
                onChoose={(version) => set({ [field]: version })}
              />
            </div>
          ))}
        </div>
        <div class="pair">
          <Field
            label="Metric that decides"
            problem={problems.metric}
            hint={
              automatic === undefined
                ? 'Your application reports it to /v1/feedback.'
                : 'The edge records it itself.'
            }
          >
            {(aria) => (
              <input
                {...aria}
                list="metrics"
                value={fields.metric}
                autocomplete="off"
                spellcheck={false}
                onInput={(event) => {
                  const metric = event.currentTarget.value.trim();
                  const one = AUTOMATIC_METRICS.find(({ key }) => key === metric);
                  set(one === undefined ? { metric } : { metric, kind: one.kind, better: one.better });
                }}
              />
            )}
          </Field>
          <Suggestions id="metrics" of={METRICS} />
          <Field label="Its values" problem={problems.kind}>
            {(aria) => (
              <select
                {...aria}
                value={fields.kind}
                disabled={automatic !== undefined}
                onChange={(event) => set({ kind: event.currentTarget.value as ExperimentFields['kind'] })}
              >
                <option value="proportion">0 to 1 (yes or no)</option>
                <option value="mean">any number</option>
              </select>
            )}
          </Field>
          <Field label="Better is" problem={problems.better}>
            {(aria) => (
              <select
                {...aria}
                value={fields.better}
                onChange={(event) => set({ better: event.currentTarget.value as ExperimentFields['better'] })}
              >
                <option value="up">higher</option>
                <option value="down">lower</option>
              </select>
            )}
          </Field>
        </div>
        <Field label="Coverage, percent of the users" problem={problems.coverage}>
          {(aria) => (
            <input
              {...aria}
              inputMode="decimal"
              value={fields.coverage}
              autocomplete="off"
              onInput={(event) => set({ coverage: event.currentTarget.value })}
            />
          )}
        </Field>
        <JudgeField fields={fields} problem={problems.judge} set={set} />
        <CheckField
          label="Guard it: roll back automatically if clearly more answers fail or are abandoned, hold if the first token is clearly slower"
          begin={fields.guarded}
          onChange={(guarded) => set({ guarded })}
        />
        <CheckField
          label="Start with a hundredth of that coverage and grow automatically: four steps of an hour each"
          begin={fields.ramped}
          onChange={(ramped) => set({ ramped })}
        />
        {problems.guarded !== undefined && <p class="wrong">{problems.guarded}</p>}
        {problems.ramped !== undefined && <p class="wrong">{problems.ramped}</p>}
        <RareFields fields={fields} problems={problems} set={set} />
        <Outlook client={client} fields={shown} />
        <ProblemNote problem={problem} />
        <div class="actions">
          <button type="submit" class="main" disabled={busy}>
            {busy ? 'Creating …' : 'Create a draft'}
          </button>
          <span class="hint">Nothing changes for users before you start it.</span>
        </div>
      </form>
    </>
  );
}

type SetFields = (part: Partial<ExperimentFields>) => void;

/** The judge, if nobody rates answers. */
function JudgeField(props: { fields: ExperimentFields; problem: string | undefined; set: SetFields }) {
  const { fields, set } = props;
  const judgedBy = (judge: string): Partial<ExperimentFields> => {
    // Judged pairs need nobody in the experiment, unless a coverage is entered.
    if (fields.judge === '' && fields.coverage === EMPTY_FIELDS.coverage) return { judge, coverage: '0' };
    return judge === '' && fields.coverage === '0' ? { judge, coverage: EMPTY_FIELDS.coverage } : { judge };
  };
  return (
    <Field
      label="Judge (optional)"
      problem={props.problem}
      hint="The base, a name, or your application’s https URL. It compares control’s answers with the treatment’s for a fifth of the requests; with a coverage of 0, users get control only."
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

/** Options that most experiments do not need. */
function RareFields(props: { fields: ExperimentFields; problems: FieldProblems; set: SetFields }) {
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
        hint="For the plan only, if no experiment of the name has counted them."
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
        hint="tenant, name (below this one), or header:x-plan. It decides nothing."
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
        <CheckField
          label="Cap it: values above control’s 99th percentile count as that percentile, so that a few users cannot decide"
          begin={fields.capped}
          onChange={(capped) => set({ capped })}
        />
      )}
    </details>
  );
}

/** Longer lists are typed instead. */
const MAX_SHOWN = 8;

/** A list of a name's versions, newest first. */
function VersionChoices(props: {
  /** Label of the choice, such as `Control`. */
  label: string;
  versions: readonly VersionView[];
  live: number | null;
  /** According to the name's history, as far as it was read. */
  wasLive: ReadonlySet<number>;
  /** Content of the field. */
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
            title={`Rank ${one.rank}, created ${ago(one.created_at, Date.now())} by ${one.created_by}`}
            onClick={() => onChoose(version)}
          >
            {version} <span class="hint">{`${state}${score}`}</span>
          </button>
        );
      })}
    </div>
  );
}
