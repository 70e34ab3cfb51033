import type { Comparison } from './measure.ts';
import { GRAFT } from './measure.ts';

const SYSTEMS = [
  { system: GRAFT, title: 'graft (int8)', colour: '#1b7f5c' },
  { system: 'vLLM', title: 'vLLM CPU 0.32 (float32)', colour: '#6d8fb3' },
  { system: 'llama.cpp', title: 'llama.cpp’s server (Q4_1)', colour: '#c9a227' },
] as const;
const PANELS = [
  { title: 'tokens a second (more is better)', of: 'rate' },
  { title: 'time to the first token, median, ms (less is better)', of: 'ttft' },
] as const;
const SCENARIOS = [
  { scenario: 'base', title: '16 × base' },
  { scenario: 'r8', title: '16 adapters' },
  { scenario: 'r16', title: '16 adapters, r16' },
  { scenario: 'r8-64', title: '64 adapters' },
] as const;

const row = ({ waves }: Comparison, scenario: string, system: string) =>
  waves.find((wave) => wave.scenario === scenario && wave.system === system);
const whole = (value: number | undefined): string =>
  value === undefined || Number.isNaN(value) ? '' : Math.round(value).toLocaleString('en-US');

/** @returns the table of the README, Markdown, without a newline at its end. */
export function readmeTable(comparison: Comparison): string {
  const head = ['', '16 adapters', 'base only', '64 adapters', 'TTFT median', 'one request'];
  const rows = SYSTEMS.map(({ system, title }) => {
    const of = (scenario: string) => row(comparison, scenario, system);
    return [
      title,
      ...[of('r8'), of('base'), of('r8-64')].map((wave) => `${whole(wave?.tokensPerSecond.median)} tok/s`),
      `${whole(of('r8')?.ttftMs.median)} ms`,
      `${whole(of('one')?.tokensPerSecond.median)} tok/s`,
    ];
  });
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

/** @param between `<!-- compare -->` and `<!-- /compare -->` stands what is replaced. @throws Error when they are not there. */
export function replaceTable(readme: string, table: string): string {
  const pattern = /(<!-- compare -->\n)[\s\S]*?(<!-- \/compare -->)/;
  if (!pattern.test(readme)) throw new Error('README.md has no <!-- compare --> block');
  return readme.replace(pattern, (_, open: string, close: string) => `${open}\n${table}\n\n${close}`);
}

/** @returns an SVG: throughput and time to the first token, a group of bars a scenario, the figure above each bar. */
export function drawComparison(comparison: Comparison): string {
  const [wide, tall, bar, left] = [760, 300, 34, 16];
  const group = (wide - 2 * left) / SCENARIOS.length;
  const body = [
    `<rect width="${wide}" height="${2 * tall + 30}" fill="#fff"/>`,
    ...SYSTEMS.map(
      ({ title, colour }, i) =>
        `<rect x="${left + i * 220}" y="10" width="12" height="12" fill="${colour}"/><text x="${left + 18 + i * 220}" y="20">${title}</text>`,
    ),
  ];
  for (const [index, { title, of }] of PANELS.entries()) {
    const top = 30 + index * tall;
    const floor = top + tall - 36;
    const value = (scenario: string, system: string) => {
      const wave = row(comparison, scenario, system);
      return of === 'rate' ? wave?.tokensPerSecond.median : wave?.ttftMs.median;
    };
    const values = SCENARIOS.flatMap(({ scenario }) =>
      SYSTEMS.map(({ system }) => value(scenario, system) ?? 0),
    );
    const scale = (tall - 96) / Math.max(...values);
    body.push(
      `<text x="${left}" y="${top + 26}" font-weight="bold">${title}</text>`,
      `<line x1="${left}" x2="${wide - left}" y1="${floor}" y2="${floor}" stroke="#888"/>`,
    );
    for (const [at, { scenario, title: name }] of SCENARIOS.entries()) {
      const x = left + at * group + 12;
      body.push(`<text x="${x}" y="${floor + 16}" fill="#444">${name}</text>`);
      for (const [i, { system, colour }] of SYSTEMS.entries()) {
        const figure = value(scenario, system);
        if (figure === undefined) continue;
        const height = Math.max(1, figure * scale);
        const from = x + i * (bar + 6);
        body.push(
          `<rect x="${from}" y="${(floor - height).toFixed(1)}" width="${bar}" height="${height.toFixed(1)}" fill="${colour}"/>`,
          `<text x="${from + bar / 2}" y="${(floor - height - 4).toFixed(1)}" text-anchor="middle" font-size="11">${whole(figure)}</text>`,
        );
      }
    }
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${wide} ${2 * tall + 30}" font-family="sans-serif" font-size="13">`,
    ...body,
    '</svg>\n',
  ].join('\n');
}
