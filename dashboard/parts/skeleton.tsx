/** Stands where something is coming, as high as it will be. @param rows lines of a table; none = a chart. */
export function Skeleton({ label, rows }: { label: string; rows?: number }) {
  return (
    <div class="skeleton" role="status" aria-label={`Loading ${label}`}>
      {rows === undefined ? (
        <span class="block" />
      ) : (
        Array.from({ length: rows }, (_, i) => <span key={i} class="line" />)
      )}
    </div>
  );
}
