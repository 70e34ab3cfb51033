import { Layers } from 'lucide';
import { useId, useLayoutEffect, useRef, useState } from 'preact/hooks';
import { type Client, readNames } from '../api/client.ts';
import { byName, fit, isFound } from '../model/names.ts';
import { hashOf } from '../model/view.ts';
import { Icon } from '../parts/icon.tsx';
import { useLoad } from '../parts/use-load.ts';
import { ROUTES } from '../routes.tsx';

/** More would be looked through by eye; typing on is faster. */
const MAX_NAMES = 12;

/** Goes to a view or a name by some letters of it: Ctrl + K. */
export function Palette({ client, onClose }: { client: Client; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const id = useId();
  const names = useLoad('palette', () => readNames(client));
  // Before the next key is pressed.
  useLayoutEffect(() => dialog.current?.showModal(), []);
  const close = () => {
    dialog.current?.close();
    onClose();
  };
  const views = ROUTES.filter(({ icon, label }) => icon !== null && isFound(label, text.trim())).sort(
    (a, b) => fit(a.label, text) - fit(b.label, text),
  );
  const found =
    text.trim() === ''
      ? []
      : (names.data?.entries ?? [])
          .map(({ name }) => name)
          .filter((name) => isFound(name, text.trim()))
          .sort((a, b) => fit(a, text) - fit(b, text) || byName(a, b));
  const options = [
    ...views.map(({ at: view, label, icon }) => ({ label, icon, hash: hashOf({ at: view }) })),
    ...found
      .slice(0, MAX_NAMES)
      .map((name) => ({ label: name, icon: Layers, hash: hashOf({ at: 'adapters', name }) })),
  ];
  const chosen = Math.min(at, options.length - 1);
  const go = (hash: string) => {
    close();
    location.hash = hash;
  };
  return (
    <dialog
      ref={dialog}
      class="palette"
      aria-label="Go to a view or a name"
      onCancel={(event) => {
        event.preventDefault();
        close();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) close();
      }}
    >
      <input
        role="combobox"
        aria-label="View or name"
        aria-expanded="true"
        aria-controls={`${id}-list`}
        aria-activedescendant={chosen < 0 ? undefined : `${id}-${chosen}`}
        placeholder="A view, or part of a name"
        autocomplete="off"
        spellcheck={false}
        value={text}
        onInput={(event) => {
          setText(event.currentTarget.value);
          setAt(0);
        }}
        onKeyDown={(event) => {
          const step = event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0;
          if (step !== 0 && options.length > 0) {
            event.preventDefault();
            setAt((chosen + step + options.length) % options.length);
          }
          if (event.key === 'Enter' && options[chosen] !== undefined) {
            event.preventDefault();
            go(options[chosen].hash);
          }
        }}
      />
      <ul id={`${id}-list`} role="listbox" aria-label="Found">
        {options.map(({ label, icon, hash }, i) => (
          <li
            key={hash}
            id={`${id}-${i}`}
            role="option"
            aria-selected={i === chosen}
            onClick={() => go(hash)}
            onPointerMove={() => setAt(i)}
          >
            {icon !== null && <Icon of={icon} />}
            <span>{label}</span>
          </li>
        ))}
      </ul>
      <p class="hint">
        {options.length === 0
          ? names.loading
            ? 'Looking …'
            : 'Nothing is called so.'
          : found.length > MAX_NAMES
            ? `${MAX_NAMES} of ${found.length} names; type more of the one you mean.`
            : 'Arrows choose, Enter goes there, Escape closes.'}
      </p>
    </dialog>
  );
}
