import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nameProblem } from '../../../protocol/index.ts';
import { manifestOf } from '../../../worker/intake/write-pointer.ts';
import { modelNotFound, parseModelReference, resolveName } from '../../../worker/policy/resolve-name.ts';
import { versionRow } from '../../contracts/sample-rows.ts';

fc.configureGlobal({ seed: 20 });

describe('parseModelReference', () => {
  it.each([
    ['base', { kind: 'base' }],
    ['tiny', { kind: 'base' }],
    ['medicine/cardiology', { kind: 'name', name: 'medicine/cardiology' }],
    ['medicine@3', { kind: 'version', name: 'medicine', version: 3 }],
    ['medicine@0', { kind: 'illegal' }],
    ['medicine@03', { kind: 'illegal' }],
    ['medicine@', { kind: 'illegal' }],
    ['medicine@1e3', { kind: 'illegal' }],
    ['medicine@9999999999', { kind: 'illegal' }],
    ['a@1@2', { kind: 'illegal' }],
    ['base/x', { kind: 'illegal' }],
    ['base@1', { kind: 'illegal' }],
    ['../x', { kind: 'illegal' }],
    ['mEd', { kind: 'illegal' }],
    ['med\u0000', { kind: 'illegal' }],
    ['', { kind: 'illegal' }],
  ])('%j', (model, reference) => {
    expect(parseModelReference(model, 'tiny')).toEqual(reference);
  });

  it('never lets an illegal name through', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' })), (model) => {
        const reference = parseModelReference(model, null);
        if ('name' in reference) expect(nameProblem(reference.name)).toBeNull();
      }),
    );
  });
});

describe('resolveName', () => {
  const caller = { keyId: 'k', tenant: 'me', scopes: [], stale: false };
  const mine = manifestOf(versionRow('a', 1, { owner: 'me' }));
  const theirs = manifestOf(versionRow('a', 1, { owner: 'you' }));

  it('gives what the caller may use', () => {
    expect(resolveName(caller, { state: 'found', value: mine, stale: true })).toEqual({
      ok: true,
      value: { manifest: mine, stale: true },
    });
  });

  it('makes no difference between forbidden and unknown', () => {
    const forbidden = resolveName(caller, { state: 'found', value: theirs, stale: false });
    expect(forbidden).toEqual(resolveName(caller, { state: 'absent' }));
    expect(forbidden).toEqual(resolveName(caller, { state: 'gone' }));
    expect(forbidden).toEqual({ ok: false, error: { kind: 'unusable' } });
  });

  it('takes trouble for trouble', () => {
    expect(resolveName(caller, { state: 'trouble', reason: 'secret detail', retryAfterMs: 7 })).toEqual({
      ok: false,
      error: {
        kind: 'trouble',
        error: {
          code: 'registry_unavailable',
          message: expect.not.stringContaining('secret'),
          retryAfterMs: 7,
        },
      },
    });
  });
});

describe('modelNotFound', () => {
  it('cuts long names and offers suggestions', () => {
    const { message } = modelNotFound('x'.repeat(500), ['a', 'b']);
    expect(message.length).toBeLessThan(260);
    expect(message).toContain("Did you mean 'a' or 'b'?");
    expect(modelNotFound('x', []).message).not.toContain('Did you mean');
  });
});
