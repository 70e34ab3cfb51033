import { describe, expect, it } from 'vitest';
import { MAX_COMPOSED, MAX_COMPOSED_SCALE, takeEdgeFields } from '../../protocol/index.ts';

const rest = { model: 'm', messages: [] };
const take = (more: object) => takeEdgeFields({ ...rest, ...more });

describe('takeEdgeFields', () => {
  it('takes its own fields out and leaves the rest alone', () => {
    expect(take({})).toEqual({ ok: true, value: { edge: { strict: false, adapters: [] }, rest } });
    expect(take({ strict: true, adapters: [{ name: 'a/b@2', scale: -0.5 }, { name: 'c' }] })).toEqual({
      ok: true,
      value: {
        edge: {
          strict: true,
          adapters: [
            { name: 'a/b@2', scale: -0.5 },
            { name: 'c', scale: 1 },
          ],
        },
        rest,
      },
    });
  });

  it('takes null for "not given"', () => {
    const nothing = { ok: true, value: { edge: { strict: false, adapters: [] }, rest } };
    expect(take({ strict: null, adapters: null })).toEqual(nothing);
    expect(take({ adapters: [] })).toEqual(nothing);
    expect(take({ adapters: [{ name: 'c', scale: null }] })).toMatchObject({
      value: { edge: { adapters: [{ name: 'c', scale: 1 }] } },
    });
  });

  it.each([null, 'x', 7, []])('leaves a body that is no object (%j) to who parses it', (body) => {
    expect(takeEdgeFields(body)).toMatchObject({ ok: true, value: { rest: body } });
  });

  const many = (length: number) => Array.from({ length }, (_, i) => ({ name: `n${i}` }));
  it.each([
    [{ strict: 'yes' }, 'strict'],
    [{ adapters: 'x' }, 'adapters'],
    [{ adapters: ['x'] }, 'adapters[0]'],
    [{ adapters: [{}] }, 'adapters[0].name'],
    [{ adapters: [{ name: '' }] }, 'adapters[0].name'],
    [{ adapters: [{ name: 'x'.repeat(513) }] }, 'adapters[0].name'],
    [{ adapters: [{ name: 'a', colour: 'red' }] }, 'adapters[0].colour'],
    [{ adapters: [{ name: 'a', scale: '1' }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: MAX_COMPOSED_SCALE + 0.001 }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: -MAX_COMPOSED_SCALE - 0.001 }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: Number.NaN }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a', scale: Infinity }] }, 'adapters[0].scale'],
    [{ adapters: [{ name: 'a' }, { name: 'b' }, { name: 'a', scale: 2 }] }, 'adapters[2].name'],
    [{ adapters: many(MAX_COMPOSED + 1) }, 'adapters'],
  ])('refuses %j and names %s', (more, param) => {
    expect(take(more)).toMatchObject({ ok: false, error: { code: 'invalid_request', param } });
  });

  it('takes what is just within the limits', () => {
    expect(take({ adapters: many(MAX_COMPOSED) }).ok).toBe(true);
    for (const scale of [MAX_COMPOSED_SCALE, -MAX_COMPOSED_SCALE, 0])
      expect(take({ adapters: [{ name: 'x'.repeat(512), scale }] }).ok).toBe(true);
  });
});
