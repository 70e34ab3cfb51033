import { useEffect, useRef } from 'preact/hooks';
import { CopyButton } from '../../parts/copy-button.tsx';

export interface MadeKey {
  readonly key: string;
  readonly label: string;
}

/** Shows a key the one time that anybody sees it. */
export function NewKeyNote({ made, onClose }: { made: MadeKey; onClose: () => void }) {
  const note = useRef<HTMLElement>(null);
  // It may stand far above the row that it is of: it comes into sight, and is read out.
  useEffect(() => note.current?.focus(), [made.key]);
  return (
    <section ref={note} tabIndex={-1} class="note good secret" aria-label="The new key">
      <p>
        <strong>{made.label === '' ? 'The new key' : `The key of ${made.label}`}: copy it now.</strong> It is
        shown this once; the edge keeps only its digest.
      </p>
      <div class="joined">
        <code>{made.key}</code>
        <CopyButton text={made.key} what="the key" label="Copy" />
      </div>
      <button type="button" class="small" onClick={onClose}>
        I have it
      </button>
    </section>
  );
}
