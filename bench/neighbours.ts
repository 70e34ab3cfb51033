/** `npm run bench -- neighbours`: what one tenant's load does to another's time to the first token. */
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { describeMachine } from './machine.ts';
import { measureNeighbours, type NeighbourRow } from './measurements/neighbours.ts';

const USAGE = `npm run bench -- neighbours [--short]
  Asks as one tenant while another one keeps the origin busy, fairly and in several other ways; about 7 minutes.
  Runs against \`graft dev\` of this folder, or GRAFT_URL with GRAFT_ADMIN_KEY. Figures are of one origin: stop others.
  --only <text>        only the neighbours whose name has this in it, and the fair one
  --short              a few seconds each, to see that it works; not for figures`;

const ms = (value: number): string => value.toFixed(0);
const times = (value: number): string => `${value.toFixed(1)} x`;

/** @throws Error that names the flag; CliError when there is no server or no admin key. */
export async function benchNeighbours(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', default: '' },
      short: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const rows = await measureNeighbours({
    pace: values.short ? 'short' : 'full',
    only: values.only,
    signal,
    onRow: (row) => process.stderr.write(`${row.neighbour}: TTFT p50 ${ms(row.ttftMs.p50)} ms\n`),
  });
  const machine = await describeMachine();
  console.log(formatNeighbours(rows));
  console.log(JSON.stringify({ date: new Date().toISOString(), machine, neighbours: rows }));
}

/** @returns a table for people, and the first problem of each row that has one. */
export function formatNeighbours(rows: readonly NeighbourRow[]): string {
  const table = new Table({
    head: ['beside', 'requests', 'TTFT ms p50', 'p99', 'p50 to fair', 'p99 to fair', 'problems'],
    style: { head: [], border: [] },
  });
  for (const { neighbour, requests, ttftMs, ratio, problems } of rows)
    table.push([
      ...[neighbour, requests, ms(ttftMs.p50), ms(ttftMs.p99)],
      ...[times(ratio.p50), times(ratio.p99), problems.length],
    ]);
  const problems = rows.flatMap(({ neighbour, problems: [first] }) =>
    first === undefined ? [] : [`PROBLEM ${neighbour}: ${first}`],
  );
  return [table.toString(), ...problems].join('\n');
}
