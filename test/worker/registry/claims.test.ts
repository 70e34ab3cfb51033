import { describe, expect, it } from 'vitest';
import { mayTake, scopeOwner, takenAmong } from '../../../worker/registry/claims.ts';
import type { Claim, Surroundings } from '../../../worker/registry/ports.ts';

const around = (more: Partial<Surroundings> = {}): Surroundings => ({
  own: null,
  above: null,
  below: [],
  ...more,
});
const name = (owner: string, path = 'a'): Claim => ({ path, owner, by: 'name' });
const room = (owner: string, path = 'a'): Claim => ({ path, owner, by: 'room' });

describe('a name', () => {
  it.each([
    ['nothing around it', {}, true],
    ['its own', { own: 'me', above: room('you'), below: ['you'] }, true],
    ["another's", { own: 'you', above: name('me') }, false],
    ['below an own name', { above: name('me') }, true],
    ["below another's name", { above: name('you') }, false],
    ["in another's room", { above: room('you') }, false],
    ['above own names', { below: ['me'] }, true],
    ["above another's", { below: ['me', 'you'] }, false],
    ["below an own name, above another's", { above: name('me'), below: ['you'] }, false],
    ["in an own room, above another's", { above: room('me'), below: ['you'] }, true],
  ])('with %s', (_, more, free) => expect(mayTake('me', around(more))).toBe(free));

  it('comes with a notice of the other owners around it for the operator', () => {
    expect(takenAmong('a/b', 'me', around({ above: name('me'), below: ['me'] }))).toBeNull();
    expect(takenAmong('a/b', 'me', around({ own: 'me', above: name('you') }))).toBeNull();
    expect(takenAmong('a/b', 'me', around({ above: name('you'), below: ['me', 'she'] }))).toBe(
      "'a/b' of 'me' lies between names of others: above it is 'a' of 'you'; below it are names or prefixes of 'she'.",
    );
  });
});

describe('a scope', () => {
  const owner = (one: string) => ({ kind: 'owner', owner: one });
  it.each([
    ['a/b/**', { own: 'me', above: name('you') }, owner('me')],
    ['a/b/**', { above: name('you'), below: ['me'] }, owner('you')],
    ['a/**', { own: 'me', above: room('you') }, owner('you')],
    ['a', { own: 'me', above: room('you') }, owner('me')],
    ['a/b/**', { own: 'me', above: room('you') }, owner('me')],
    ['a/**', { below: ['me'] }, owner('me')],
    ['a/**', { below: ['me', 'you'] }, { kind: 'several' }],
    ['a/**', {}, { kind: 'nobody' }],
  ])('%s amid %j means %j', (scope, more, means) => expect(scopeOwner(scope, around(more))).toEqual(means));
});
