import type { Part, Recorded } from './record-origin.ts';

/** A wave's wall time as parts that follow each other, ms; and what ran beside them. */
export interface TakenApart {
  wallMs: number;
  parts: { name: string; ms: number }[];
  /** `wallMs` less the sum of the parts. */
  restMs: number;
  /** `mixed`: of the prefill steps, those with rows that decode in the same run. */
  steps: { prefill: number; mixed: number; decode: number; decodeMedianMs: number };
  /** Time of the origin's main thread at it while the model ran. */
  besideMs: Record<Part, number>;
  /** CPU time by who used it. */
  cpuMs: Record<string, number>;
}

/** @param wave.start, wave.end of the load generator, ms since the epoch. */
export function takeApart(params: {
  recorded: Recorded;
  wave: { start: number; end: number };
  cpuMs: Record<string, number>;
}): TakenApart {
  const { recorded, wave, cpuMs } = params;
  const steps = [...recorded.steps].sort((a, b) => a.start - b.start);
  const [first] = steps;
  if (first === undefined) throw new Error('the origin ran no step');
  const total = { prefill: 0, mixed: 0, decode: 0 };
  let between = 0;
  let until = first.start;
  for (const { kind, mixed, start, end } of steps) {
    between += Math.max(0, start - until);
    // Where steps overlap, what overlaps counts once.
    total[mixed ? 'mixed' : kind] += Math.max(0, end - Math.max(start, until));
    until = Math.max(until, end);
  }
  const named = (Object.entries(recorded.parts) as [Part, { between: number }][]).map(([name, at]) => ({
    name: `${name}, between steps`,
    ms: at.between,
  }));
  const known = named.reduce((sum, { ms }) => sum + ms, 0);
  const parts = [
    {
      name: 'to the first step: load generator, edge, HTTP, tokens of the prompt',
      ms: first.start - wave.start,
    },
    { name: 'prefill', ms: total.prefill },
    { name: 'prefill with rows that decode in the same run', ms: total.mixed },
    { name: 'decode', ms: total.decode },
    ...named,
    { name: 'gaps between steps: scheduling, events, whatever else the loop does', ms: between - known },
    { name: 'from the last step: SSE, HTTP, edge, load generator', ms: wave.end - until },
  ];
  const decodes = steps.filter(({ kind }) => kind === 'decode').map(({ start, end }) => end - start);
  decodes.sort((a, b) => a - b);
  const wallMs = wave.end - wave.start;
  return {
    wallMs,
    parts,
    restMs: wallMs - parts.reduce((sum, { ms }) => sum + ms, 0),
    steps: {
      prefill: steps.length - decodes.length,
      mixed: steps.filter(({ mixed }) => mixed).length,
      decode: decodes.length,
      decodeMedianMs: decodes[decodes.length >> 1] ?? NaN,
    },
    besideMs: Object.fromEntries(
      Object.entries(recorded.parts).map(([name, { beside }]) => [name, beside]),
    ) as Record<Part, number>,
    cpuMs: {
      'origin, model threads': recorded.cpuMs - recorded.mainCpuMs,
      'origin, main thread': recorded.mainCpuMs,
      ...cpuMs,
    },
  };
}
