import { describe, expect, it } from 'vitest';
import { changeRequest, keyRequest, limitsText } from '../../../cli/key-flags.ts';
import { isOver, keyState, keyTable, scopesText } from '../../../cli/commands/keys.ts';
import { NO_RIGHTS, type KeyView } from '../../../protocol/admin-api/keys.ts';

const plain = (args: Record<string, unknown>) => JSON.parse(JSON.stringify(keyRequest(args))) as unknown;

describe('a key as flags say it', () => {
  it('has only defaults without flags', () => expect(plain({})).toEqual({}));

  it('has the given settings', () =>
    expect(
      plain({
        admin: false,
        tenant: 'acme',
        scopes: 'medicine/**, support/intent,',
        label: 'staging',
        expires: '90d',
        rpm: '60',
        tpm: '100k',
        concurrent: '4',
        'tokens-per-day': '1M',
        'tokens-per-month': '20M',
        'on-outage': 'refuse',
        strict: true,
        'strict-fields': true,
        degrade: 'base',
        'keep-prompts': '30d',
        publish: true,
        train: true,
        'trust-trace': true,
      }),
    ).toEqual({
      tenant: 'acme',
      scopes: ['medicine/**', 'support/intent'],
      label: 'staging',
      expires_in: 7_776_000_000,
      limits: {
        requests_per_minute: 60,
        tokens_per_minute: 100_000,
        concurrent: 4,
        tokens_per_day: 1_000_000,
        tokens_per_month: 20_000_000,
        on_outage: 'refuse',
      },
      strict: true,
      strict_fields: true,
      degrade: 'base',
      keep_prompts: 720,
      publish: true,
      train: true,
      trust_trace: true,
    }));

  it('is an admin key if requested', () =>
    expect(plain({ admin: true, prompts: true })).toEqual({ kind: 'admin', prompts: true }));

  it.each([
    [{ rpm: '0' }, '--rpm'],
    [{ expires: 'soon' }, '--expires'],
    [{ degrade: 'no' }, '--degrade'],
    [{ 'keep-prompts': '90m' }, '--keep-prompts'],
    [{ 'keep-prompts': '0' }, '--keep-prompts'],
    [{ 'keep-prompts': '31d' }, '--keep-prompts'],
    [{ rpm: '1', 'on-outage': 'maybe' }, '--on-outage'],
    [{ 'on-outage': 'refuse' }, '--on-outage'],
  ])('is refused with %j', (args, flag) => expect(() => keyRequest(args)).toThrow(flag));
});

describe('a change as flags say it', () => {
  const change = (args: Record<string, unknown>) =>
    JSON.parse(JSON.stringify(changeRequest('key_1', args))) as unknown;

  it('has the given settings, and removes those set to none', () => {
    expect(
      change({
        rpm: '120',
        tpm: 'none',
        scopes: 'none',
        degrade: 'none',
        strict: false,
        'strict-fields': false,
        download: false,
        'keep-prompts': 'none',
        prompts: false,
        'trust-trace': false,
      }),
    ).toEqual({
      id: 'key_1',
      limits: { requests_per_minute: 120, tokens_per_minute: null },
      scopes: [],
      degrade: null,
      strict: false,
      strict_fields: false,
      download: false,
      keep_prompts: null,
      prompts: false,
      trust_trace: false,
    });
    expect(change({ label: 'none', 'on-outage': 'refuse', strict: true })).toEqual({
      id: 'key_1',
      label: '',
      limits: { on_outage: 'refuse' },
      strict: true,
    });
  });

  it.each([{}, { rpm: 'no' }, { degrade: 'x' }])('is refused with %j', (args) =>
    expect(() => changeRequest('key_1', args)).toThrow(/--/),
  );
});

describe('a key as it is listed', () => {
  const NOW = Date.UTC(2026, 0, 31, 7, 30);
  const key = (more: Partial<KeyView>): KeyView => ({
    id: 'key_1',
    kind: 'api',
    tenant: 'default',
    scopes: [],
    scope_owners: [],
    label: '',
    created_at: 0,
    created_by: 'bootstrap',
    revoked_at: null,
    expires_at: null,
    ...NO_RIGHTS,
    replaced_by: null,
    replaces: null,
    ...more,
  });

  it.each([
    [{}, 'good', false],
    [{ expires_at: NOW + 1 }, 'until 2026-01-31 07:30Z', false],
    [{ expires_at: NOW }, 'expired', true],
    [{ expires_at: NOW, revoked_at: 5 }, 'revoked', true],
    [{ expires_at: NOW + 1, replaced_by: 'key_2' }, 'until 2026-01-31 07:30Z, replaced by key_2', false],
  ])('%j is %s', (more, state, over) => {
    expect(keyState(key(more), NOW)).toBe(state);
    expect(isOver(key(more), NOW)).toBe(over);
  });

  it('shows the owners of its scopes', () => {
    const scopes = ['medicine/**', '**'];
    expect(scopesText(key({ scopes, scope_owners: ['clinic', null] }))).toBe(
      'medicine/** of clinic, ** of anybody',
    );
    expect(scopesText(key({ scopes: ['a'], scope_owners: [] }))).toBe('a of anybody');
  });

  it('shows whose prompts are kept, and who reads them, if any are', () => {
    const lines = (...keys: KeyView[]) => keyTable(keys, NOW).split('\n');
    expect(lines(key({}))[0]).not.toContain('PROMPTS');
    const [head, ...rows] = lines(key({ keep_prompts: 24 }), key({ kind: 'admin', prompts: true }), key({}));
    expect(head).toMatch(/LIMITS +PROMPTS +STATE/);
    expect(rows.map((row) => /kept 24h|reads|- +- +good/.exec(row)?.[0].replace(/ +/g, ' '))).toEqual([
      'kept 24h',
      'reads',
      '- - good',
    ]);
  });

  it('shows its limits in few words', () => {
    expect(limitsText(null)).toBe('-');
    expect(
      limitsText({
        requests_per_minute: 60,
        tokens_per_minute: 12_345,
        concurrent: 4,
        tokens_per_day: 1_500_000,
      }),
    ).toBe('60 req/min, 12345 tok/min, 4 at once, 1.5M tok/day');
  });
});
