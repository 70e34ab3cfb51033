/** A path or a code that is broken after a slash or an underscore where it has to be, rather than within a word. */
export function Breakable({ text }: { text: string }) {
  return (
    <>
      {text.split(/(?<=[/_])/).map((part, i) => (
        <>
          {i > 0 && <wbr />}
          {part}
        </>
      ))}
    </>
  );
}
