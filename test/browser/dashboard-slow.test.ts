/** An edge that answers more slowly than the page asks, as it does while an origin hangs. */
import type { Route } from 'playwright-core';
import { expect, it } from 'vitest';
import { useDashboard } from './dashboard-rig.ts';

const rig = useDashboard();

it('shows an answer that comes after the next question would be due', async () => {
  const { page } = rig;
  const held: Route[] = [];
  await page.clock.install();
  await page.addInitScript(() => {
    const { fetch } = globalThis;
    Object.assign(globalThis, { asked: 0 });
    globalThis.fetch = (...args) => {
      if (String(args[0]).startsWith('/admin/origins?')) (globalThis as unknown as Counted).asked += 1;
      return fetch(...args);
    };
  });
  const asked = () => page.evaluate(() => (globalThis as unknown as Counted).asked);
  await page.route('**/admin/origins?*', (route) => void held.push(route));
  await rig.open('#/origins');
  await expect.poll(() => held.length).toBe(1);
  // It asks every 5 s.
  await page.clock.runFor(11_000);
  expect(await asked()).toBe(1);
  await held[0]!.continue();
  await page.getByText('tiny-base').first().waitFor();
  await page.clock.runFor(5_000);
  expect(await asked()).toBe(2);
  await expect.poll(() => held.length).toBe(2);
  await held[1]!.continue();
});

interface Counted {
  asked: number;
}
