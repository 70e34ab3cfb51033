/** A few ways to see the same thing, one of them chosen, or none (null). */
export function Choices<T extends string>(props: {
  label: string;
  of: readonly (readonly [value: T, words: string])[];
  value: T | null;
  onChoose: (value: T) => void;
}) {
  return (
    <div class="choices" role="group" aria-label={props.label}>
      {props.of.map(([value, words]) => (
        <button
          key={value}
          type="button"
          aria-pressed={value === props.value}
          onClick={() => props.onChoose(value)}
        >
          {words}
        </button>
      ))}
    </div>
  );
}
