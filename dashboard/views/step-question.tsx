import { useState } from 'preact/hooks';
import type { RequestOf } from '../../protocol/admin-api/operations.ts';
import { VersionList } from '../../protocol/admin-api/versions.ts';
import type { ExperimentView } from '../../protocol/admin-api/experiments.ts';
import type { Client } from '../api/client.ts';
import { isJudgedAlone, nextCoverage, type Step } from '../model/experiment-words.ts';
import { percent } from '../model/words.ts';
import type { Question } from '../parts/confirm.tsx';

interface StepParams {
  client: Client;
  step: Step;
  view: ExperimentView;
}

type StepRoute = `POST /admin/experiments/:id/${Exclude<Step, 'revive'>}`;

/** What some steps take besides. */
interface More {
  coverage?: number;
  killed?: boolean;
  variant?: string;
  over?: number;
}

/** What is asked before a step of an experiment, and the request that it is. */
export function stepQuestion({ client, step, view }: StepParams): Question {
  const { id, document, proposal } = view;
  const { name } = document;
  const send = async (taken: Exclude<Step, 'revive'>, why: string | undefined, more: More = {}) => {
    const body: RequestOf<StepRoute> = { expect: document.version, why, ...more };
    const route: StepRoute = `POST /admin/experiments/:id/${taken}`;
    const answer = await client.call(route, { params: { id }, body });
    return answer.ok ? null : answer.error;
  };
  switch (step) {
    case 'start':
      return {
        title: `Start the experiment on ${name}?`,
        text: isJudgedAlone(document)
          ? `From now on a share of the requests to ${name} is answered twice, and a judge compares both answers. Users get the live version.`
          : `From now on users of ${name} get one of its variants, and what happens to them is counted.`,
        act: 'Start',
        run: (why) => send('start', why),
      };
    case 'ramp': {
      const next = nextCoverage(document);
      // The dialog holds it while it is open.
      const chosen = { percent: String(100 * (next ?? 1)) };
      return {
        title: 'Give it more coverage?',
        text: `${percent(document.coverage)} of the units are in it now. More are added; nobody changes variant.`,
        act: 'Change coverage',
        more: <CoverageField begin={chosen.percent} onChange={(text) => (chosen.percent = text)} />,
        run: (why) => send('ramp', why, { coverage: Number(chosen.percent) / 100 }),
      };
    }
    case 'kill':
      return {
        title: 'Turn the kill switch on?',
        text: `Everybody who calls ${name} gets its live version, within about a minute. It can be taken back.`,
        act: 'Kill switch on',
        danger: true,
        run: (why) => send('kill', why, { killed: true }),
      };
    case 'revive':
      return {
        title: 'Turn the kill switch off?',
        text: 'The same users get the same variants again.',
        act: 'Kill switch off',
        run: (why) => send('kill', why, { killed: false }),
      };
    case 'stop':
      return {
        title: `Stop the experiment on ${name}?`,
        text: 'Nobody wins, and everybody gets the live version. It cannot be started again; a new one can be made.',
        act: 'Stop it',
        danger: true,
        run: (why) => send('stop', why),
      };
    case 'promote': {
      const proposed = proposal?.variant ?? null;
      const keys = document.variants.map(({ key }) => key);
      const chosen: { variant: string; over?: number } = { variant: proposed ?? keys[1] ?? keys[0]! };
      return {
        title: `Promote a variant of ${name}?`,
        text:
          `Its version becomes the live one of ${name} for everybody, and the experiment ends. ` +
          (proposed === null
            ? 'No winner is proposed: this is your choice alone.'
            : `${proposed} is proposed.`),
        act: 'Promote',
        more: <VariantField keys={keys} begin={chosen.variant} onChange={(key) => (chosen.variant = key)} />,
        async run(why) {
          const problem = await send('promote', why, { ...chosen });
          if (problem?.param !== 'over') return problem;
          const versions = await client.call('GET /admin/versions', { query: { name }, as: VersionList });
          if (!versions.ok || versions.value.version === null) return problem;
          chosen.over = versions.value.version;
          return {
            ...problem,
            message: `Version ${chosen.over} of ${name} is live, which is neither control nor ${chosen.variant}: nobody has compared it.`,
            advice: 'Press Promote again to replace it all the same.',
          };
        },
      };
    }
    case 'archive':
      return {
        title: 'Archive this experiment?',
        text: `${name} is free for another one. What was learnt stays.`,
        act: 'Archive',
        run: (why) => send('archive', why),
      };
  }
}

function CoverageField({ begin, onChange }: { begin: string; onChange: (text: string) => void }) {
  const [text, setText] = useState(begin);
  return (
    <label class="field">
      <span>Coverage, percent of the units</span>
      <input
        type="number"
        min="0.01"
        max="100"
        step="any"
        required
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          onChange(event.currentTarget.value);
        }}
      />
    </label>
  );
}

function VariantField(props: { keys: readonly string[]; begin: string; onChange: (key: string) => void }) {
  const [key, setKey] = useState(props.begin);
  return (
    <label class="field">
      <span>Variant</span>
      <select
        value={key}
        onChange={(event) => {
          setKey(event.currentTarget.value);
          props.onChange(event.currentTarget.value);
        }}
      >
        {props.keys.map((one) => (
          <option key={one} value={one}>
            {one}
          </option>
        ))}
      </select>
    </label>
  );
}
