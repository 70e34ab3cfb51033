// Plays gpu-origin/train.ts: the same arguments and events, without a model. Its own flags come first:
// --adapter FOLDER (copied as the result), --plays WHAT, --record FILE (gets its arguments), --waits FILE.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';

const text = { type: 'string' };
const names = [
  'adapter',
  'plays',
  'record',
  'waits',
  'base',
  'base-id',
  'base-name',
  'cache',
  'weights',
  'provider',
];
const { values } = parseArgs({
  options: {
    ...Object.fromEntries(
      [...names, 'threads', 'rows', 'work', 'settings', 'chain'].map((name) => [name, text]),
    ),
    resume: { type: 'boolean' },
  },
});
const { plays = 'well', work } = values;
if (values.record !== undefined) writeFileSync(values.record, JSON.stringify(values));
const tell = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
const STEPS = 6;
const checkpoint = path.join(work, 'checkpoint.safetensors');
let stopping = false;
process.on('SIGTERM', () => (stopping = true));

const settings = JSON.parse(values.settings);
const first = values.resume ? Number(readFileSync(checkpoint, 'utf8')) : 0;
const save = (step) => writeFileSync(checkpoint, String(step));

tell('provider', { message: 'provider cpu: a fake' });
tell('progress', { what: 'Preparing', percent: 100 });
if (plays === 'crashes') {
  process.stderr.write('TypeError: no such tensor\n');
  process.exit(3);
}
if (plays === 'is-killed') process.kill(process.pid, 'SIGKILL');
if (plays === 'has-no-rows') {
  tell('failed', { code: 'rows_invalid', message: 'line 3: no assistant message', kept_step: null });
  process.exit(1);
}
tell('rows', { trained: 9, held_out: 1, left_out: 2, longest: 31, tokens: 120 });
tell('plan', {
  ...{ steps: STEPS, done: first, parameters: 28, seconds_per_step: 2.7, seconds: 2.7 * (STEPS - first) },
  ...{ memory_bytes: 1.4e9, recompute: false },
});
tell('held_out', { step: first, loss: 2.5, exact: 0, rows: 1 });
while (values.waits !== undefined && !existsSync(values.waits)) await sleep(5);
const curve = [];
for (let step = first + 1; step <= STEPS; step += 1) {
  if (stopping) {
    save(step - 1);
    tell('stopped', { step: step - 1, steps: STEPS });
    process.exit(0);
  }
  if (plays === 'is-stopped' && step === 3) {
    // Until it is told to end.
    while (!stopping) await sleep(5);
    step -= 1;
    continue;
  }
  if (plays === 'runs-out-of-memory' && step === 3) {
    tell('failed', { code: 'out_of_memory', message: 'Not enough memory for a step', kept_step: 2 });
    process.exit(1);
  }
  const loss = 3 / step;
  curve.push([step, loss, step % 2 === 0 ? loss + 0.5 : null]);
  tell('step', {
    ...{
      step,
      steps: STEPS,
      loss,
      rate: 1e-3,
      tokens_per_second: 310.4,
      tokens: 40 * step,
      seconds_left: 2.7 * (STEPS - step),
    },
  });
  if (step % 2 === 0) {
    tell('held_out', { step, loss: loss + 0.5, exact: 0, rows: 1 });
    save(step);
    tell('saved', { step });
  }
}
const card = {
  rows: {
    sha256: createHash('sha256').update(readFileSync(values.rows)).digest('hex'),
    ...{ trained: 9, held_out: 1, left_out: 2 },
  },
  base: {
    id: values['base-id'],
    digest: createHash('sha256').update(readFileSync(values.base)).digest('hex'),
    weights: values.weights,
  },
  chain: JSON.parse(values.chain).map(({ digest, scale }) => ({ digest, scale })),
  settings: { ...settings, rate: settings.rate ?? 1e-3, batch: settings.batch ?? 4 },
  steps: STEPS,
  tokens: 120,
  curve,
  scores: { loss_before: 2.5, loss: 1, exact: 1, rows: 1 },
  seconds: 16.2,
  finished_at: 1_800_000_000_000,
};
const folder = path.join(work, 'adapter');
rmSync(folder, { recursive: true, force: true });
mkdirSync(folder);
cpSync(values.adapter, folder, { recursive: true });
writeFileSync(path.join(folder, 'training.json'), JSON.stringify(card));
tell('ready', { folder, card });
