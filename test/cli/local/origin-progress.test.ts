import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { originProgress } from '../../../cli/local/origin-process.ts';
import { createOutput, progressLine } from '../../../cli/output.ts';
import { writtenTo } from '../../fixtures/written-to.ts';

function shown(terminal: boolean, events: readonly Record<string, unknown>[]): string {
  const stderr = Object.assign(new PassThrough(), { isTTY: terminal });
  const progress = originProgress(createOutput({ json: false, stdout: new PassThrough(), stderr }));
  for (const event of events) progress.hear({ event: 'progress', ...event });
  progress.end();
  return writtenTo(stderr);
}

const events = [
  { what: 'Preparing', percent: 0 },
  { what: 'Preparing', percent: 100 },
  { what: 'Loading', percent: 100 },
  { event: 'ready' },
];

it('prints one line per stage', () => {
  expect(shown(false, events)).toBe('Preparing\nLoading\n');
});

it('names the provider', () => {
  const provider = { event: 'provider', message: 'provider cpu: a library' };
  expect(shown(false, [provider, ...events])).toBe('provider cpu: a library\nPreparing\nLoading\n');
});

it('draws a bar on a terminal, even if the origin ends within a stage', () => {
  const clear = '\r\u001b[2K';
  const bar = (what: string, percent: number) => clear + progressLine(what, percent, 100, 'percent');
  expect(shown(true, events)).toBe(
    `${bar('Preparing', 0)}${bar('Preparing', 100)}${clear}Preparing\n${bar('Loading', 100)}${clear}Loading\n`,
  );
  expect(shown(true, [{ what: 'Preparing', percent: 10 }])).toBe(
    `${bar('Preparing', 10)}${clear}Preparing\n`,
  );
});
