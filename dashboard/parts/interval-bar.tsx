/** An interval as a bar on a line, with its estimate and 0, which it has to leave; the figures stand beside it. */
export function IntervalBar(props: {
  low: number;
  estimate: number;
  high: number;
  /** What the line shows, both ends. */
  range: readonly [number, number];
  tone: 'good' | 'bad' | 'open';
}) {
  const { low, estimate, high, range, tone } = props;
  const [from, to] = range;
  const at = (value: number): number =>
    (100 * (Math.min(to, Math.max(from, value)) - from)) / (to - from || 1);
  return (
    <svg class={`interval ${tone}`} viewBox="0 0 100 12" preserveAspectRatio="none" aria-hidden="true">
      <line class="zero" x1={at(0)} x2={at(0)} y1="0" y2="12" />
      <rect x={at(low)} width={Math.max(1, at(high) - at(low))} y="4" height="4" rx="1" />
      <line class="estimate" x1={at(estimate)} x2={at(estimate)} y1="2" y2="10" />
    </svg>
  );
}
