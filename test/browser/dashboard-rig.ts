/** The real page against the real local stack with a tiny base. */
import path from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect, type TestContext } from 'vitest';
import { startTinyStack, type TinyStack } from '../e2e/tiny-stack.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { startChromium } from './chromium.ts';
import { backgroundLight, hardToRead } from './legibility.ts';

export const NAME = 'support/intent';
const NARROW = { width: 360, height: 740 };
const WIDE = { width: 1280, height: 800 };

export interface DashboardRig {
  readonly stack: TinyStack;
  readonly browser: Browser;
  readonly page: Page;
  /** What the browser complained of; what breaks the page's policy is among it. */
  readonly complaints: string[];
  /** A further page whose complaints count as well. */
  openPage(): Promise<Page>;
  signIn(key?: string): Promise<void>;
  /** Goes by the main menu. @param view as it is called there. */
  goTo(view: string): Promise<void>;
  /** Presses the button of the open question and waits until it has been done. */
  confirm(act: string): Promise<void>;
  /** Signs in and is at a view's address. @param hash such as `#/keys`. */
  open(hash: string): Promise<void>;
  /** Asks the edge with the API key. */
  post(path: string, body: object): Promise<Response>;
  /**
   * What is shown now is legible in light and dark, and at 360 pixels nothing makes the page scroll sideways. For
   * whoever wants to see it: `GRAFT_SHOTS` is a folder.
   */
  look(name: string): Promise<void>;
  /** Writes what the page shows when the test has failed. */
  tell(context: TestContext): Promise<void>;
  remove(): Promise<void>;
}

/** With versions 1 (live) and 2 (staged) of {@link NAME}, and one that inherits from it. */
async function startDashboard(devArgs: readonly string[]): Promise<DashboardRig> {
  const [stack, browser] = await Promise.all([startTinyStack('', devArgs), startChromium()]);
  const publish = async (folder: string, name: string, kind: string, ...more: string[]) => {
    writeTinyAdapter(path.join(stack.folder, folder), TINY_ADAPTERS[kind] as TinyAdapter);
    const done = await stack.graft('publish', folder, '--name', name, ...more);
    if (done.code !== 0) throw new Error(done.stderr);
  };
  await publish('one', NAME, 'attention');
  await Promise.all([
    publish('two', NAME, 'everything', '--stage'),
    publish('child', `${NAME}/child`, 'attention', '--parent', NAME),
  ]);
  const complaints: string[] = [];
  const openPage = async () => {
    const opened = await browser.newPage();
    opened.on('pageerror', (error) => complaints.push(String(error)));
    opened.on('console', (message) => {
      // A request that is refused is what some of the tests are about; the page says so itself.
      if (!message.text().startsWith('Failed to load resource')) complaints.push(message.text());
    });
    return opened;
  };
  const page = await openPage();
  return {
    ...{ stack, browser, page, complaints, openPage },
    async signIn(key = stack.local.adminKey) {
      await page.goto(`${stack.local.url}/dashboard`);
      await page.getByLabel('Admin key').fill(key);
      await page.getByRole('button', { name: 'Sign in' }).click();
    },
    async open(hash) {
      await page.goto(`${stack.local.url}/dashboard`);
      await page.evaluate(
        `sessionStorage.setItem('graft.admin-key', '${stack.local.adminKey}');
         sessionStorage.setItem('graft.api-key', '${stack.local.key}');
         location.hash = ${JSON.stringify(hash)};`,
      );
      await page.reload();
    },
    async goTo(view) {
      await page.getByRole('navigation').getByRole('link', { name: view }).click();
      await page.getByRole('heading', { name: view, level: 1 }).waitFor();
    },
    async confirm(act) {
      await page.getByRole('dialog').getByRole('button', { name: act, exact: true }).click();
      await page.getByRole('dialog').waitFor({ state: 'detached' });
    },
    post: (to, body) =>
      fetch(stack.local.url + to, {
        method: 'POST',
        headers: { authorization: `Bearer ${stack.local.key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    async look(name) {
      const folder = process.env['GRAFT_SHOTS'];
      const shot = async (kind: string) => {
        if (folder === undefined) return;
        await page.screenshot({ path: path.join(folder, `${name}-${kind}.png`), fullPage: true });
      };
      for (const colorScheme of ['dark', 'light'] as const) {
        await page.emulateMedia({ colorScheme });
        expect(await hardToRead(page), `${name}, ${colorScheme}`).toEqual([]);
        expect((await backgroundLight(page)) > 0.5, `${name}, ${colorScheme}`).toBe(colorScheme === 'light');
        await shot(colorScheme);
      }
      await page.setViewportSize(NARROW);
      await shot('360');
      const width = await page.evaluate('document.documentElement.scrollWidth');
      await page.setViewportSize(WIDE);
      expect(width, `${name}, width`).toBe(NARROW.width);
    },
    async tell({ task }) {
      if (task.result?.state !== 'fail') return;
      console.error(`${page.url()} shows\n${await page.locator('body').innerText()}`);
    },
    async remove() {
      await browser.close();
      await stack.remove();
    },
  };
}

/** One for all tests of a file, from its first `beforeAll` on. @param devArgs of `graft dev`. */
export function useDashboard(devArgs: readonly string[] = []): DashboardRig {
  const rig = {} as DashboardRig;
  let remove = async (): Promise<void> => undefined;
  beforeAll(async () => {
    Object.assign(rig, await startDashboard(devArgs));
    ({ remove } = rig);
  });
  afterEach((context) => rig.tell(context));
  afterAll(() => remove());
  return rig;
}
