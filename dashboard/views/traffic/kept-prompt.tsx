import { useState } from 'preact/hooks';
import type { KeptPrompt } from '../../../protocol/admin-api/prompts.ts';
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';
import type { Client } from '../../api/client.ts';
import type { Problem } from '../../model/problem.ts';
import { moment } from '../../model/words.ts';
import { ProblemNote } from '../../parts/notes.tsx';

/** What a request asked and was answered: read when somebody asks for it, since that leaves a trace. */
export function KeptPromptOf({ client, request }: { client: Client; request: RequestView }) {
  const [kept, setKept] = useState<KeptPrompt | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [busy, setBusy] = useState(false);
  const read = async () => {
    setBusy(true);
    const answer = await client.call('GET /admin/requests/:id/prompt', {
      params: { id: request.id },
      query: { at: String(request.at) },
    });
    setBusy(false);
    setProblem(answer.ok ? null : answer.error);
    if (answer.ok) setKept(answer.value);
  };
  if (kept !== null) return <Said kept={kept} />;
  return (
    <div class="kept-prompt">
      <p>
        <button type="button" class="small" disabled={busy} onClick={() => void read()}>
          {busy ? 'Reading …' : 'Show prompt and answer'}
        </button>{' '}
        <span class="hint">Who reads them is noted in the history of the tenant.</span>
      </p>
      <ProblemNote problem={problem} />
    </div>
  );
}

function Said({ kept }: { kept: KeptPrompt }) {
  const { prompt, prompt_cut: promptCut, answers, answers_cut: answersCut, expires_at: end } = kept;
  const several = answers !== null && answers.length > 1;
  return (
    <section class="kept-prompt" aria-label="Prompt and answer">
      {promptCut && <p class="hint">The prompt was longer: its last messages are here.</p>}
      <dl>
        {prompt.map(({ role, text }, i) => (
          <div key={i}>
            <dt>{role}</dt>
            <dd dir="auto">{text}</dd>
          </div>
        ))}
        {answers?.map((text, i) => (
          <div key={`answer ${i}`}>
            <dt>{several ? `answer ${i + 1}` : 'answer'}</dt>
            <dd dir="auto">{text === '' ? <span class="faint">nothing</span> : text}</dd>
          </div>
        ))}
      </dl>
      <p class="hint">
        {answers === null && (answersCut ? 'The answer was too long to be kept. ' : 'There is no answer. ')}
        {answers !== null && answersCut && 'The answer was longer. '}
        Deleted on {moment(end)}.
      </p>
    </section>
  );
}
