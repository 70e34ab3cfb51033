/** How experiments stand: in their list, beside their adapter, and in figures that nobody has yet. */
import { beforeAll, expect, it } from 'vitest';
import type { ExperimentEvaluation, ExperimentView } from '../../protocol/admin-api/experiments.ts';
import { NAME, useDashboard } from './dashboard-rig.ts';

const START = Date.UTC(2026, 10, 20, 12);
const HOUR = 3_600_000;

const rig = useDashboard();
let view: ExperimentView;
beforeAll(async () => {
  const made = await admin('/admin/experiments', {
    name: NAME,
    variants: [
      { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
      { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
    ],
  });
  view = await admin(`/admin/experiments/${made.id}/start`, {});
});

async function admin(to: string, body: object): Promise<ExperimentView> {
  const { url, adminKey } = rig.stack.local;
  const headers = { authorization: `Bearer ${adminKey}`, 'content-type': 'application/json' };
  const answer = await fetch(url + to, { method: 'POST', headers, body: JSON.stringify(body) });
  expect(answer.ok).toBe(true);
  return (await answer.json()) as ExperimentView;
}

/** A look some hours after the start. @param lift of the treatment; null = not known. */
function look(hours: number, lift: number | null, units: [number, number]): ExperimentEvaluation {
  const interval = (middle: number) => ({
    low: middle - 1 / (hours + 1),
    estimate: middle,
    high: middle + 1 / (hours + 1),
  });
  return {
    at: START + hours * HOUR,
    ...{
      seed: view.document.seed,
      coverage: 1,
      alpha: 0.05,
      health: [],
      arms: {},
      progress: null,
      shadow: {},
    },
    units: { control: units[0], treatment: units[1] },
    sample_ratio: { state: 'ok', p_value: 1 },
    comparisons: ['thumbs', 'latency_ms'].map((metric) => ({
      ...{
        metric,
        variant: 'treatment',
        kind: metric === 'thumbs' ? ('proportion' as const) : ('mean' as const),
      },
      better: metric === 'thumbs' ? ('up' as const) : ('down' as const),
      control: { n: units[0], mean: 0.5 },
      treatment: { n: units[1], mean: 0.6 },
      ...{ verdict: 'open' as const, reason: null, p_value: 0.2, adjusted: false, difference: null },
      lift: lift === null ? null : interval(lift),
    })),
    guardrails: [
      {
        ...{ metric: 'ttft_ms', variant: 'treatment', action: 'hold', state: 'too_few_units', inside: false },
        ...{ control: 120, treatment: 0, lost: null },
      },
    ],
    decision: { action: 'wait', reason: 'not_significant' },
  };
}

it('draws the interval of a single look, in the middle of its hour', async () => {
  const { page } = rig;
  const looks = [look(0, 0.2, [80, 0])];
  await page.route(`**/admin/experiments/${view.id}`, (route) =>
    route.fulfill({ json: { ...view, evaluation: looks[0] } }),
  );
  await page.route(`**/admin/experiments/${view.id}/looks`, (route) => route.fulfill({ json: { looks } }));
  await rig.open(`#/experiments/${view.id}`);
  await page.locator('.chart canvas').waitFor();
  await rig.look('experiment-one-look');
  const drawn = (await page.evaluate(`(() => {
    const element = document.querySelector('.chart canvas');
    const { width, height } = element;
    const { data } = element.getContext('2d').getImageData(0, 0, width, height);
    const ink = getComputedStyle(element).getPropertyValue('--series-1').trim();
    const color = [1, 3, 5].map((at) => parseInt(ink.slice(at, at + 2), 16));
    const places = [];
    for (let at = 0; at < data.length; at += 4)
      if (color.every((part, i) => data[at + i] === part)) places.push(((at / 4) % width) / width);
    return places;
  })()`)) as number[];
  // As long as the interval, and nowhere else.
  expect(drawn.length).toBeGreaterThan(50);
  expect([Math.min(...drawn) > 0.45, Math.max(...drawn) < 0.6]).toEqual([true, true]);
  await page.unrouteAll();
});

it('has no figures for a variant that nobody got, and calls nothing certain that is open', async () => {
  const { page } = rig;
  const looks = [look(0, null, [20, 0]), look(1, 0.1, [40, 0]), look(2, 0.3, [60, 0]), look(3, 0.2, [80, 0])];
  await page.route(`**/admin/experiments/${view.id}`, (route) =>
    route.fulfill({ json: { ...view, evaluation: looks.at(-1) } }),
  );
  await page.route(`**/admin/experiments/${view.id}/looks`, (route) => route.fulfill({ json: { looks } }));
  await rig.open(`#/experiments/${view.id}`);
  await page.getByRole('row', { name: /^ttft_ms treatment 120 – / }).waitFor();
  await page.getByRole('row', { name: /^thumbs treatment .* open$/ }).waitFor();
  expect(await page.getByText(/chance|probab/i).count()).toBe(0);
  await rig.look('experiment-open');
});

it('shows the values that the pointer is at, and the last ones otherwise', async () => {
  const { page } = rig;
  const chart = page.getByRole('img', { name: /^Lift of thumbs over time/ });
  const readout = page.locator('.readout');
  await readout.getByText('+20 %').waitFor();
  const box = (await chart.boundingBox())!;
  // The first interval is at the left end, below the values of the axis.
  await page.mouse.move(box.x + 90, box.y + 100);
  await readout.getByText('+10 %').waitFor();
  await page.mouse.move(box.x + box.width / 2 + 20, box.y + 100);
  await readout.getByText('+30 %').waitFor();
  await page.mouse.move(box.x, box.y - 50);
  await readout.getByText('+20 %').waitFor();
  await page.unrouteAll();
});

it('is said beside its adapter, before somebody promotes by hand', async () => {
  const { page } = rig;
  await page.evaluate(`location.hash = '#/adapters/${NAME}'`);
  const note = page.locator('.note').filter({ hasText: 'An experiment is running.' });
  await note.waitFor();
  await rig.look('adapter-experiment');
  await note.getByRole('link', { name: 'See it' }).click();
  await page.getByRole('heading', { level: 1, name: NAME }).waitFor();
});

it('has versions to choose from, and takes others that are typed', async () => {
  const { page } = rig;
  await page.evaluate(`location.hash = '#/new-experiment/${NAME}'`);
  const choices = page.getByRole('group', { name: 'Versions for treatment' });
  await choices.getByRole('button', { name: /^2 staged/ }).click();
  expect(await page.getByLabel('Treatment, version').inputValue()).toBe('2');
  const control = page.getByRole('group', { name: 'Versions for control' });
  expect(await control.getByRole('button', { name: /^1 live/ }).getAttribute('aria-pressed')).toBe('true');
  await rig.look('new-experiment-versions');
});

it('is in the list as what became of it, whatever the last look was', async () => {
  const { page } = rig;
  const evaluation = look(3, 0.2, [80, 70]);
  const one = (
    name: string,
    more: object,
    evaluated: object | null = evaluation,
    startedAt: number | null = START,
  ) => ({
    ...{
      ...view,
      id: `exp_${name.replaceAll('-', '0').padEnd(16, '0')}`,
      evaluation: evaluated,
      started_at: startedAt,
    },
    document: { ...view.document, name, ...more },
  });
  const rollback = { action: 'rollback', reason: 'guardrail', metric: 'error_rate', variant: 'treatment' };
  await page.route('**/admin/experiments', (route) =>
    route.fulfill({
      json: {
        experiments: [
          one('running', {}),
          one('won', { status: 'decided', winner: 'treatment' }),
          one('lost', { status: 'decided' }, { ...evaluation, decision: rollback }),
          one(
            'stopped',
            { status: 'archived' },
            { ...evaluation, decision: { action: 'propose_winner', variant: 'treatment' } },
          ),
          one('killed', { killed: true }),
          one('drafted', { status: 'draft' }, null, null),
        ],
        cursor: null,
      },
    }),
  );
  await page.evaluate("location.hash = '#/experiments'");
  for (const row of [
    /^running running .* Wait: no significant difference yet\.$/,
    /^won decided .* treatment won, and its version is live\.$/,
    /^lost decided .* Rolled back: treatment failed the guardrail error_rate\.$/,
    /^stopped archived .* Stopped without a winner\.$/,
    /^killed killed .* Killed: everybody gets the live version\.$/,
    /^drafted draft .* Not started\.$/,
  ])
    await page.getByRole('row', { name: row }).waitFor();
  await rig.look('experiments-list');
  await page.unrouteAll();
  expect(rig.complaints).toEqual([]);
});
