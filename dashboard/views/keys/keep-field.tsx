import { hoursWords, KEEPS } from '../../model/key-words.ts';

/** How long what a key asks and is answered is kept. @param props.begin hours, as it is now; null = it is not. */
export function KeepField(props: { begin: number | null; onChange: (hours: number | null) => void }) {
  const { begin } = props;
  // A time that was set elsewhere is one of them, so that it stays when nothing is chosen.
  const offered = KEEPS.some(([, hours]) => hours === begin)
    ? KEEPS
    : [...KEEPS, [hoursWords(begin ?? 0), begin] as const];
  return (
    <label class="field">
      <span>Keep prompts and answers</span>
      <select onChange={(event) => props.onChange(offered[event.currentTarget.selectedIndex]?.[1] ?? null)}>
        {offered.map(([words, hours]) => (
          <option key={words} selected={hours === begin}>
            {words}
          </option>
        ))}
      </select>
      <small class="hint">
        Encrypted, and deleted after this time. Admin keys of the tenant that may read prompts see them in
        Requests.
      </small>
    </label>
  );
}
