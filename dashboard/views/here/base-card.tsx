import { Download, Play, Trash2 } from 'lucide';
import { useEffect } from 'preact/hooks';
import { WebBaseManifest } from '../../../protocol/browser-downloads.ts';
import { createClient } from '../../api/client.ts';
import { engineHere, lookAtStored, openHere, removeHere, stopOpening } from '../../api/engine-here.ts';
import { bytes } from '../../model/words.ts';
import { Icon } from '../../parts/icon.tsx';
import { ProblemNote } from '../../parts/notes.tsx';
import { useLoad } from '../../parts/use-load.ts';
import { useStore } from '../../parts/use-store.ts';

/** The base in this browser: what it is and how large, before anything is fetched; how far it is; what answers. */
export function BaseCard() {
  const manifest = useLoad('web base', () => createClient(null).get('/base/base.json', WebBaseManifest));
  const engine = useStore(engineHere);
  useEffect(() => void lookAtStored(), []);
  return (
    <section class="card here-base" aria-label="The base in this browser">
      {manifest.problem?.code === 'not_found' ? (
        <NoBase onRetry={() => void manifest.reload()} />
      ) : (
        <ProblemNote problem={manifest.problem} onRetry={() => void manifest.reload()} />
      )}
      {engine.at === 'closed' && <ProblemNote problem={engine.problem} />}
      {engine.at === 'opening' && <Opening progress={engine.progress} />}
      {engine.at === 'open' && (
        <p>
          <strong>{engine.model.base}</strong> on {engine.model.runtime}. Conversations have up to{' '}
          {engine.model.context.toLocaleString('en-US')} tokens.
        </p>
      )}
      {engine.at === 'open' && engine.progress !== null && (
        <Bar words="Fetching the adapter" {...engine.progress} />
      )}
      {engine.at === 'closed' && manifest.data !== null && (
        <Closed manifest={manifest.data} stored={engine.stored} />
      )}
      {engine.at === 'open' && <Remove />}
    </section>
  );
}

function Closed({ manifest, stored }: { manifest: WebBaseManifest; stored: number | null }) {
  const size = manifest.parts.reduce((sum, part) => sum + part.bytes, 0);
  const isKept = stored !== null && stored >= size;
  return (
    <>
      <p>
        <strong>{manifest.base.id}</strong>, {bytes(size)}.{' '}
        {isKept
          ? `This browser has it: ${bytes(stored)} with adapters.`
          : 'It is fetched once and kept by this browser; an adapter comes with the first question to it.'}
        {stored !== null && stored > 0 && !isKept && ` ${bytes(stored)} are here already.`}
      </p>
      <div class="actions">
        <button type="button" class="main" onClick={() => void openHere()}>
          <Icon of={isKept ? Play : Download} />
          {isKept ? 'Start it' : `Fetch ${bytes(size)} and start`}
        </button>
        {stored !== null && stored > 0 && <Remove />}
      </div>
    </>
  );
}

const Remove = () => (
  <button type="button" onClick={() => void removeHere()}>
    <Icon of={Trash2} />
    Remove what is stored here
  </button>
);

const STAGES = {
  check: 'Comparing what is stored with its digests',
  base: 'Fetching the base',
  runtime: 'Starting it',
  adapter: 'Fetching the adapter',
} as const;

function Opening({
  progress,
}: {
  progress: { stage: keyof typeof STAGES; done: number; total: number } | null;
}) {
  return (
    <>
      <Bar
        words={progress === null ? 'Starting' : STAGES[progress.stage]}
        done={progress?.done ?? 0}
        total={progress?.total ?? 0}
        steps={progress?.stage === 'runtime'}
      />
      <div class="actions">
        <button type="button" onClick={stopOpening}>
          Stop
        </button>
      </div>
    </>
  );
}

function Bar(props: { words: string; done: number; total: number; steps?: boolean }) {
  const { words, done, total } = props;
  const isCounted = total > 0 && props.steps !== true;
  return (
    <p class="here-bar" role="status">
      <span>{words}</span>
      <progress {...(total > 0 ? { max: total, value: done } : {})} aria-label={words} />
      {isCounted && (
        <span class="hint">
          {bytes(done)} of {bytes(total)}
        </span>
      )}
    </p>
  );
}

function NoBase({ onRetry }: { onRetry: () => void }) {
  return (
    <div class="note alarm" role="alert">
      <p>
        <strong>This edge has no base for browsers.</strong> <code>graft base export --web</code> writes it
        among the files that the edge serves, from the base of its origins; a deployed edge is then deployed
        again. Whoever can read these files has the base’s weights.
      </p>
      <button type="button" onClick={onRetry}>
        Try again
      </button>
    </div>
  );
}
