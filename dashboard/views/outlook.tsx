import type { ExperimentProgress } from '../../protocol/admin-api/experiments.ts';
import { planWords, progressWords } from '../../protocol/state-words.ts';
import type { Client } from '../api/client.ts';
import { WRITTEN } from '../model/experiment-words.ts';
import { planRequest, type ExperimentFields } from '../model/experiment-form.ts';
import { useLoad } from '../parts/use-load.ts';

/** Before an experiment is made: what it would find, and when. Nothing while the form is not complete. */
export function Outlook({ client, fields }: { client: Client; fields: ExperimentFields }) {
  const body = planRequest(fields);
  const { data } = useLoad(body === null ? null : `plan ${JSON.stringify(body)}`, () =>
    client.call('POST /admin/experiments/plan', { body: body ?? { name: '', variants: [] } }),
  );
  if (body === null || data === null) return null;
  const words = planWords(data, WRITTEN, 'say it under More');
  return (
    <section class="note" aria-label="Plan">
      <p>
        <strong>{words.finds === null ? 'What it finds is unknown yet.' : `It finds ${words.finds}.`}</strong>{' '}
        <span class="hint">
          {[words.traffic, words.pairs, words.tokens, words.values]
            .flatMap((text) => (text === null ? [] : [sentence(text)]))
            .join(' ')}{' '}
          {words.mean === null ? '' : `Mean of the metric: ${words.mean}.`}
        </span>
      </p>
    </section>
  );
}

/** While it runs: what could be found by now, and how far it is to the rest. */
export function Progress({ progress }: { progress: ExperimentProgress }) {
  return <p class="facts">{sentence(progressWords(progress, WRITTEN))}</p>;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
