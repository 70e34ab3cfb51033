import { runCommand } from 'citty';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseWebhook, webhookCommand } from '../../../cli/commands/webhook.ts';
import type { NewWebhook, WebhookView } from '../../../protocol/admin-api/webhooks.ts';
import { expectedSignature } from '../../fakes/standard-webhooks.ts';
import { createAppHarness, type AppHarness } from '../../worker/app-harness.ts';
import { reachApp } from '../reach-app.ts';

describe('parseWebhook', () => {
  it.each([
    [{}, { action: 'list', target: '' }],
    [
      { action: 'add', target: 'https://x.test/' },
      { action: 'add', target: 'https://x.test/' },
    ],
    [
      { action: 'add', target: 'https://x.test/', tenant: 'alice', events: 'budget.used, origin.away' },
      { action: 'add', target: 'https://x.test/', tenant: 'alice', events: ['budget.used', 'origin.away'] },
    ],
    [
      { action: 'test', target: 'hook_1' },
      { action: 'test', target: 'hook_1' },
    ],
  ])('%j', (args, wanted) => expect(parseWebhook(args)).toEqual(wanted));

  it.each([
    [{ action: 'drop' }, /not one of list, add, test, secret, remove/],
    [{ action: 'list', target: 'hook_1' }, /takes no 'hook_1'/],
    [{ action: 'add' }, /Which URL\?/],
    [{ action: 'add', target: 'x', events: 'budget.use' }, /'budget.use' is not one of .* Did you mean/],
    [{ action: 'remove' }, /Which webhook\?/],
    [{ action: 'test', target: 'hook_1', tenant: 'a' }, /--tenant is not a flag of `graft webhook test`/],
  ])('refuses %j', (args, message) => expect(() => parseWebhook(args)).toThrow(message));
});

describe('graft webhook', () => {
  let graft: AppHarness;
  let said: string[];
  /** Runs it with `--json`. @returns its result. */
  const run = async <Result>(...rawArgs: string[]): Promise<Result> => {
    said = [];
    await runCommand(webhookCommand.default, { rawArgs: [...rawArgs, '--json'] });
    return JSON.parse(said.join('')) as Result;
  };

  beforeEach(async () => {
    graft = await createAppHarness();
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => said.push(String(text)) > 0);
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    vi.spyOn(console, 'log').mockImplementation((text) => void said.push(String(text)));
    reachApp(graft);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    vi.unstubAllGlobals();
    vi.restoreAllMocks();
  });

  it('adds, lists, tests and removes one, whose secret verifies what arrives', async () => {
    const url = 'https://hooks.example.com/graft';
    const made = await run<NewWebhook>('add', url, '--tenant', 'alice', '--events', 'budget.used');
    expect(made).toMatchObject({ tenant: 'alice', url, events: ['budget.used'] });
    expect(await run<{ secret: string }>('secret', made.id)).toEqual({ secret: made.secret });

    let arrived = false;
    graft.application.answer = async (to, init) => {
      const headers = new Headers(init.headers);
      const expected = expectedSignature(headers, String(init.body), made.secret);
      arrived = to === url && headers.get('webhook-signature') === expected;
      return new Response(null, { status: 204 });
    };
    expect(await run('test', made.id)).toEqual({ delivered: true, status: 204, reason: null });
    expect(arrived).toBe(true);
    graft.application.answer = async () => new Response(null, { status: 500 });
    await expect(run('test', made.id)).rejects.toThrow('The test message was not delivered: status 500.');

    expect((await run<WebhookView[]>()).map(({ id, waiting }) => [id, waiting])).toEqual([[made.id, 0]]);
    expect(await run('remove', made.id)).toEqual({ id: made.id, removed: true });
    expect(await run<WebhookView[]>()).toEqual([]);
    await expect(run('remove', made.id)).rejects.toThrow('This webhook does not exist');
  });
});
