import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  chooseOrigins,
  conversationOf,
  rankOrigins,
  type OriginState,
} from '../../../worker/origins/routing.ts';

fc.configureGlobal({ seed: 20 });

const origins = Array.from({ length: 4 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}` }));
const names = Array.from({ length: 4_000 }, (_, i) => `tenant-${i}/notes`);

describe('rankOrigins', () => {
  it('ranks all origins, independently of their given order', () => {
    fc.assert(
      fc.property(fc.string(), fc.shuffledSubarray(origins, { minLength: 4 }), (name, shuffled) => {
        const ranked = rankOrigins(name, shuffled);
        expect(ranked).toEqual(rankOrigins(name, origins));
        expect(ranked).toHaveLength(4);
      }),
    );
  });

  it('moves only the names of a removed origin', () => {
    const [gone, ...rest] = origins;
    for (const name of names.slice(0, 500)) {
      const before = rankOrigins(name, origins)[0];
      if (before !== gone) expect(rankOrigins(name, rest)[0]).toBe(before);
    }
  });

  it('spreads names evenly', () => {
    const counts = new Map<string, number>();
    for (const name of names) {
      const id = rankOrigins(name, origins)[0]?.id ?? '';
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    // 1,000 expected; five standard deviations of a binomial are 137.
    for (const { id } of origins) expect(Math.abs((counts.get(id) ?? 0) - 1_000)).toBeLessThan(137);
  });
});

describe('chooseOrigins', () => {
  const idle: OriginState = { load: 0, own: 0, slots: 16, ejected: false };
  const choose = (name: string | null, states: Record<string, Partial<OriginState>> = {}, spread = 'r') =>
    chooseOrigins({ name, spread, origins, stateOf: ({ id }) => ({ ...idle, ...states[id] }) }).map(
      ({ id }) => id,
    );

  it('asks the name’s origin while it has a free row, however idle the others are', () => {
    for (const name of names.slice(0, 200)) {
      const ranked = rankOrigins(name, origins).map(({ id }) => id);
      expect(choose(name)).toEqual(ranked);
      expect(choose(name, { [ranked[0] as string]: { load: 15 } })).toEqual(ranked);
    }
  });

  it('moves to the next origin when it is crowded, and back when all are', () => {
    const [first = '', second = '', third = '', fourth = ''] = rankOrigins('a/b', origins).map(
      ({ id }) => id,
    );
    // Up to half as many requests as rows wait a moment, rather than load their adapter elsewhere.
    expect(choose('a/b', { [first]: { load: 23 } })[0]).toBe(first);
    expect(choose('a/b', { [first]: { load: 24 } })[0]).toBe(second);
    expect(choose('a/b', { [first]: { load: 24 }, [second]: { load: 24 } })[0]).toBe(third);
    const all = {
      [first]: { load: 32 },
      [second]: { load: 32 },
      [third]: { load: 32 },
      [fourth]: { load: 32 },
    };
    // With equal loads, below 1.25 times the share, the name's own origin is asked again.
    expect(choose('a/b', all)[0]).toBe(first);
    // 52 of 148 in four origins is above 1.25 x 37.25.
    expect(choose('a/b', { ...all, [first]: { load: 52 } })[0]).toBe(second);
  });

  it('never gives an origin more than 1.25 times its share once rows are busy, and moves few names', () => {
    const load: Record<string, { load: number }> = {
      o0: { load: 0 },
      o1: { load: 0 },
      o2: { load: 0 },
      o3: { load: 0 },
    };
    for (let i = 0; i < 1_000; i += 1) {
      // Two names take most of the traffic.
      const [id = ''] = choose(i % 4 === 0 ? (names[i] as string) : `hot-${i % 2}`, load);
      (load[id] as { load: number }).load += 1;
    }
    for (const { load: one } of Object.values(load)) expect(one).toBeLessThanOrEqual(Math.ceil(1.25 * 250));
  });

  it('asks ejected origins last, but does not omit them', () => {
    const ranked = rankOrigins('a/b', origins).map(({ id }) => id);
    const [first = '', ...rest] = ranked;
    expect(choose('a/b', { [first]: { ejected: true } })).toEqual([...rest, first]);
    const none = Object.fromEntries(ranked.map((id) => [id, { ejected: true }]));
    expect(choose('a/b', none)).toEqual(ranked);
  });

  it('sends the base to the least loaded origin, and spreads it over equal ones', () => {
    const busy = {
      o0: { load: 3 },
      o1: { load: 1 },
      o2: { load: 8, slots: 64 },
      o3: { load: 20, slots: 200 },
    };
    expect(choose(null, busy)).toEqual(['o1', 'o3', 'o2', 'o0']);
    const firsts = new Set(Array.from({ length: 50 }, (_, i) => choose(null, {}, `request-${i}`)[0]));
    expect(firsts.size).toBe(4);
  });

  describe('for a name with several origins', () => {
    const ranked = rankOrigins('a/b', origins).map(({ id }) => id);
    const [first = '', second = '', third = '', fourth = ''] = ranked;
    const hot = (
      count: number,
      resident: string[],
      states: Record<string, Partial<OriginState>> = {},
      spread = 'r',
    ) =>
      chooseOrigins({
        ...{ name: 'a/b', spread, origins },
        stateOf: ({ id }) => ({ ...idle, ...states[id] }),
        replicas: { count, isResident: ({ id }) => resident.includes(id) },
      }).map(({ id }) => id);

    it('shares the load among origins that have it in memory, and uses no other', () => {
      expect(hot(3, [first])).toEqual(ranked);
      expect(hot(3, [first, third], { [first]: { load: 5 }, [third]: { load: 4 } })).toEqual([
        ...[third, first, second, fourth],
      ]);
      const firsts = Array.from({ length: 200 }, (_, i) => hot(3, ranked, {}, `request-${i}`)[0]);
      const counts = [first, second, third, fourth].map((id) => firsts.filter((one) => one === id).length);
      expect(counts[3]).toBe(0);
      // 67 of 200 expected for each; four standard deviations are 27.
      for (const count of counts.slice(0, 3)) expect(Math.abs(count - 200 / 3)).toBeLessThan(27);
    });

    it('never picks the fuller of two', () => {
      const states = { [first]: { load: 9 }, [second]: { load: 1 }, [third]: { load: 1 } };
      for (let i = 0; i < 50; i += 1) expect(hot(3, ranked, states, `request-${i}`)[0]).not.toBe(first);
    });

    it('prefers an origin that had it before if all are full, and then follows its order', () => {
      const full = { [first]: { load: 24 }, [second]: { load: 25 } };
      const busy = { [first]: { load: 18 }, [second]: { load: 17 } };
      expect(hot(2, [first, second, third], busy).slice(0, 2)).toEqual([second, first]);
      expect(hot(2, [first, second], full).slice(0, 2)).toEqual([third, fourth]);
      expect(hot(2, [first, second, fourth], full).slice(0, 2)).toEqual([fourth, third]);
    });

    it('uses one that has it in memory if the first came back empty, or fails', () => {
      expect(hot(2, [second])[0]).toBe(second);
      expect(hot(2, [first, second], { [first]: { ejected: true } })).toEqual([second, third, fourth, first]);
    });
  });

  describe('for a turn of a conversation', () => {
    const first = (
      states: Record<string, Partial<OriginState>>,
      { name = 'a/b', conversation = 'c', spread = 'r' }: Partial<Record<string, string | null>> = {},
    ) =>
      chooseOrigins({
        ...{ name, spread: spread ?? '', conversation, origins },
        stateOf: ({ id }) => ({ ...idle, ...states[id] }),
        replicas: { count: 4, isResident: () => true },
      })[0]?.id;

    it.each([{ name: 'a/b' }, { name: null }])(
      'stays with one of those that could serve it, whatever the request: $name',
      ({ name }) => {
        const of = (conversation: string, spread: string) => first({}, { name, conversation, spread });
        const own = Array.from({ length: 50 }, (_, i) => of(`c${i}`, 'r'));
        expect(Array.from({ length: 50 }, (_, i) => of(`c${i}`, `r${i}`))).toEqual(own);
        expect(new Set(own).size).toBe(4);
      },
    );

    it.each([{ name: 'a/b' }, { name: null }])('leaves it when it is much busier: $name', ({ name }) => {
      const own = first({}, { name }) ?? '';
      expect(first({ [own]: { load: 8 } }, { name })).toBe(own);
      const busy = first({ [own]: { load: 9 } }, { name });
      expect(busy).not.toBe(own);
      // A third turn finds what the second left.
      expect(first({ [own]: { load: 9 } }, { name, spread: 's' })).toBe(busy);
    });
  });
});

describe('conversationOf', () => {
  const user = (content: unknown) => ({ role: 'user', content });
  const system = { role: 'system', content: 'Be brief.' };
  const answer = { role: 'assistant', content: 'Hello.' };

  it.each([
    ['chat', { messages: [system, user('Hi')] }, { messages: [system, user('Hi'), answer, user('More')] }],
    [
      'parts',
      { messages: [user([{ type: 'text', text: 'Hi' }])] },
      { messages: [user([{ type: 'text', text: 'Hi' }]), answer] },
    ],
    [
      'messages',
      { system: 'Be brief.', messages: [user('Hi')] },
      { system: 'Be brief.', messages: [user('Hi'), answer, user('a')] },
    ],
    ['responses', { input: [user('Hi')] }, { input: [user('Hi'), answer, user('b')] }],
    ['text', { prompt: 'a'.repeat(2_048) }, { prompt: `${'a'.repeat(2_048)}b` }],
  ])('is the same for the turns of one: %s', (_, one, two) => {
    expect(conversationOf(two)).toBe(conversationOf(one));
  });

  it.each([
    ['the user', { messages: [system, user('Hi')] }, { messages: [system, user('Ho')] }],
    ['the system prompt', { messages: [system, user('Hi')] }, { messages: [user('Hi')] }],
    ['the system prompt', { system: 'a', messages: [user('Hi')] }, { system: 'b', messages: [user('Hi')] }],
    ['instructions', { instructions: 'a', input: 'Hi' }, { instructions: 'b', input: 'Hi' }],
    ['text', { prompt: 'a' }, { prompt: 'b' }],
    ['tokens', { prompt: [1, 2] }, { prompt: [1, 3] }],
    ['nothing', {}, { prompt: 'a' }],
  ])('differs by %s', (_, one, two) => {
    expect(conversationOf(two)).not.toBe(conversationOf(one));
  });

  it('takes any request', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.anything()), (request) => {
        expect(conversationOf(request)).toBe(conversationOf(request));
      }),
    );
    fc.assert(
      fc.property(fc.array(fc.json()), (messages) => {
        expect(conversationOf({ messages: messages.map((one) => JSON.parse(one) as unknown) })).toMatch(
          /^\d+$/,
        );
      }),
    );
  });
});
