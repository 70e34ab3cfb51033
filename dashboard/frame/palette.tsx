import { Layers } from 'lucide';
import { useEffect, useId, useState } from 'preact/hooks';
import { type Client, readNames } from '../api/client.ts';
import { byName, fit, isFound } from '../model/names.ts';
import { hashOf } from '../model/view.ts';
import { Icon } from '../parts/icon.tsx';
import { useModal } from '../parts/modal.ts';
import { useLoad } from '../parts/use-load.ts';
import { ROUTES } from '../routes.tsx';

/** More would be looked through by eye; typing on is faster. */
const MAX_NAMES = 12;

/** Goes to a view or a name by some letters of it: Ctrl + K. */
export function Palette({ client, onClose }: { client: Client; onClose: () => void }) {
  const [text, setText] = useState('');
  const [at, setAt] = useState(0);
  const id = useId();
  const names = useLoad('palette', () => readNames(client));
  // Where there are more names than are read at once, those that begin with what is looked for are asked for.
  const [begins = ''] = text.trim().toLowerCase().split(/\s+/);
  const more = useLoad(names.data?.cut === true && begins !== '' ? `palette ${begins}` : null, () =>
    readNames(client, begins),
  );
  const modal = useModal(false, () => close());
  const close = () => {
    modal.close();
    onClose();
  };
  const views = ROUTES.filter(({ icon, label }) => icon !== null && isFound(label, text.trim())).sort(
    (a, b) => fit(a.label, text) - fit(b.label, text),
  );
  const found =
    text.trim() === ''
      ? []
      : [...new Set([names, more].flatMap(({ data }) => data?.entries.map(({ name }) => name) ?? []))]
          .filter((name) => isFound(name, text.trim()))
          .sort((a, b) => fit(a, text) - fit(b, text) || byName(a, b));
  const options = [
    ...views.map(({ at: view, label, icon }) => ({ label, icon, hash: hashOf({ at: view }) })),
    ...found
      .slice(0, MAX_NAMES)
      .map((name) => ({ label: name, icon: Layers, hash: hashOf({ at: 'adapters', name }) })),
  ];
  const chosen = Math.min(at, options.length - 1);
  // The list is as high as half of the window.
  useEffect(() => document.getElementById(`${id}-${chosen}`)?.scrollIntoView({ block: 'nearest' }), [chosen]);
  const go = (hash: string) => {
    close();
    location.hash = hash;
  };
  return (
    <dialog
      {...modal.dialog}
      class="palette"
      aria-label="Go to a view or a name"
      onClick={(event) => {
        if (event.target === event.currentTarget) close();
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
          ? names.loading || more.loading
            ? 'Looking …'
            : names.problem !== null || more.problem !== null
              ? 'The names could not be read: only views are found.'
              : 'Nothing is called so.'
          : found.length > MAX_NAMES
            ? `${MAX_NAMES} of ${found.length} names; type more of the one you mean.`
            : 'Arrows choose, Enter goes there, Escape closes.'}
      </p>
    </dialog>
  );
}
