import type { FleetOutcome } from './simulate.ts';
import { POLICIES, type Policy } from './policies.ts';
import { CROWD } from './workloads.ts';

const COLOURS: Record<Policy, string> = {
  random: '#9e9e9e',
  'least-loaded': '#6d8fb3',
  'single-home': '#c9a227',
  bounded: '#b5651d',
  replicas: '#1b7f5c',
};
const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${more}>${words}</text>`;
const frame = (width: number, height: number, title: string, body: readonly string[]): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    text(10, 18, title, 'font-size="13"'),
    ...POLICIES.flatMap((policy, i) => [
      `<rect x="${10 + i * 100}" y="26" width="10" height="10" fill="${COLOURS[policy]}"/>`,
      text(24 + i * 100, 35, policy),
    ]),
    ...body,
    '</svg>\n',
  ].join('\n');

export const caseName = ({ origins, names, memory, keeping }: FleetOutcome): string =>
  `${origins} × ${memory * 100} % of ${names}${keeping === 'frequent' ? ', frequent' : ''}`;

/** Bars: the share of requests that find their chain in memory; a line at the static optimum of each case. */
export function drawResident(outcomes: readonly FleetOutcome[]): string {
  const cases = [...new Set(outcomes.map(caseName))];
  const [left, top, height, wide] = [34, 50, 200, 92];
  const y = (share: number) => top + height * (1 - share);
  const body = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    `<line x1="${left}" x2="${left + wide * cases.length}" y1="${y(share)}" y2="${y(share)}" stroke="#ddd"/>`,
    text(4, y(share) + 4, share.toFixed(2)),
  ]);
  for (const [index, name] of cases.entries()) {
    const x = left + index * wide;
    const [origins, rest] = name.split(' × ');
    body.push(
      text(x + 2, top + height + 14, `${origins} origins,`),
      text(x + 2, top + height + 28, rest ?? ''),
    );
    for (const outcome of outcomes.filter((one) => caseName(one) === name)) {
      const at = x + POLICIES.indexOf(outcome.policy) * 16 + 4;
      const tall = height * outcome.resident;
      body.push(
        `<rect x="${at}" y="${y(outcome.resident).toFixed(1)}" width="14" height="${tall.toFixed(1)}" fill="${COLOURS[outcome.policy]}"/>`,
        `<line x1="${x + 2}" x2="${x + 86}" y1="${y(outcome.optimum).toFixed(1)}" y2="${y(outcome.optimum).toFixed(1)}" stroke="#c00" stroke-dasharray="3 2"/>`,
      );
    }
  }
  return frame(
    left + wide * cases.length + 8,
    top + height + 36,
    'Requests that find their chain in memory; red: static optimum',
    body,
  );
}

/** Lines: the crowd's 99th percentile from the edge to a row, of each 5 s, on a scale of powers of ten. */
export function drawCrowd(outcomes: readonly FleetOutcome[]): string {
  const cases = [...new Set(outcomes.map(caseName))];
  const [top, height, wide] = [66, 150, 250];
  const body: string[] = [];
  for (const [index, name] of cases.entries()) {
    const left = 50 + (index % 4) * (wide + 60);
    const high = top + Math.floor(index / 4) * (height + 60);
    const y = (ms: number) =>
      high + height * (1 - Math.min(1, Math.max(0, Math.log10(Math.max(ms, 10)) - 1) / 4));
    body.push(text(left, high - 6, name));
    for (const [label, ms] of [
      ['10 ms', 10],
      ['0.1 s', 100],
      ['1 s', 1e3],
      ['10 s', 1e4],
      ['100 s', 1e5],
    ] as const)
      body.push(
        `<line x1="${left}" x2="${left + wide}" y1="${y(ms)}" y2="${y(ms)}" stroke="#ddd"/>`,
        text(left - 40, y(ms) + 4, label),
      );
    body.push(
      text(left, high + height + 14, '0 s'),
      text(left + wide - 24, high + height + 14, `${CROWD.lastsMs / 1_000} s`),
    );
    for (const { policy, crowdP99Ms } of outcomes.filter((one) => caseName(one) === name)) {
      const points = crowdP99Ms.map(
        (ms, i) => `${(left + (wide * (i + 0.5)) / crowdP99Ms.length).toFixed(1)},${y(ms).toFixed(1)}`,
      );
      body.push(
        `<polyline fill="none" stroke="${COLOURS[policy]}" stroke-width="1.5" points="${points.join(' ')}"/>`,
      );
    }
  }
  const across = Math.min(4, cases.length);
  return frame(
    50 + across * (wide + 60),
    top + Math.ceil(cases.length / 4) * (height + 60),
    'A flash crowd: 99th percentile from the edge to a row, of each 5 s',
    body,
  );
}
