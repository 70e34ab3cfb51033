import type { Answer } from '../../api/stream-chat.ts';
import { tokensPerSecond, ttft } from '../../model/pace.ts';
import { duration, number } from '../../model/words.ts';

/** How fast an answer came, and what gave it. */
export function Figures({ answer }: { answer: Answer | null }) {
  const first = answer === null ? null : ttft(answer.pace);
  const speed = answer === null ? null : tokensPerSecond(answer.pace);
  const tokens = answer === null ? 0 : (answer.pace.tokens ?? answer.pace.pieces);
  return (
    <dl class="figures">
      <div>
        <dt>
          <abbr title="Time to first token">TTFT</abbr>
        </dt>
        <dd>{first === null ? '–' : duration(first)}</dd>
      </div>
      <div>
        <dt>Tokens/s</dt>
        <dd>{speed === null ? '–' : number(speed)}</dd>
      </div>
      <div>
        <dt>Tokens</dt>
        <dd>{tokens === 0 ? '–' : tokens}</dd>
      </div>
      <div class="wide">
        <dt>Served by</dt>
        <dd>
          {answer?.adapter ?? '–'}
          {answer?.inherited === true && ' (inherited)'}
          {answer?.variant != null && ` (variant ${answer.variant})`}
        </dd>
      </div>
    </dl>
  );
}
