import { describe, expect, it } from 'vitest';
import { checkMembers, type Member } from '../../adapters/index.ts';
import { chainId } from '../../protocol/identity.ts';

const BASE = 'tiny-llama';
const digestOf = (digit: number): string => String(digit).repeat(64);
const member = (digit: number, parent: string | null = null, rest: Partial<Member> = {}): Member => ({
  label: `member-${digit}`,
  config: { base: BASE, parent },
  digest: digestOf(digit),
  scale: 1,
  ...rest,
});
const foreign = (label: string): Member => ({ label, config: null, digest: null, scale: 1 });
const idOf = (...below: Member[]) => chainId(below.map(({ digest, scale }) => ({ digest: digest!, scale })));

async function refused(code: string, members: Member[]): Promise<string> {
  const result = await checkMembers(members);
  if (result.ok) throw new Error('not refused');
  expect(result.error.code).toBe(code);
  return result.error.message;
}

const root = member(1);
const child = member(2, await idOf(root));
const grandchild = member(3, await idOf(root, child));
const onChildAlone = member(4, await idOf(child));

describe('a chain', () => {
  it.each([
    ['one adapter', [root]],
    ['a child on its parent', [root, child]],
    ['three levels', [root, child, grandchild]],
    ['the last one scaled', [root, child, { ...grandchild, scale: 0.5 }]],
  ])('%s has the base as parent', async (_name, members) => {
    expect(await checkMembers(members)).toEqual({
      ok: true,
      value: { base: BASE, parent: null, warnings: [] },
    });
  });

  it('is accepted at the scales that the child was packed for', async () => {
    const half = { ...root, scale: 0.5 };
    expect((await checkMembers([half, member(2, await idOf(half))])).ok).toBe(true);
  });

  it('is refused when a parent has another scale, naming it', async () => {
    const message = await refused('parent_mismatch', [root, { ...child, scale: 0.5 }, grandchild]);
    expect(message).toContain('member-3');
    expect(message).toContain('member-2 has the scale 0.5');
  });

  it.each([
    ['another order', [child, root]],
    ['a gap', [root, grandchild]],
    ['the wrong root', [member(9), child]],
    ['a chain and a sibling', [root, child, member(4)]],
    ['a chain and a sibling of the child', [root, child, member(4, child.config!.parent)]],
    ['a child of a chain whose root is not there', [child, onChildAlone]],
    ['a chain and a file without lineage', [root, child, foreign('peft')]],
  ])('is refused for %s, naming both', async (_name, members) => {
    const message = await refused('parent_mismatch', members);
    expect(message.match(/member-\d/g)).toHaveLength(2);
    expect(message).toContain('was packed for');
  });
});

describe('siblings', () => {
  it('keep their parent, at any scale', async () => {
    const parent = await idOf(root);
    const siblings = [member(4, parent, { scale: 0.3 }), member(5, parent, { scale: -2 })];
    expect(await checkMembers(siblings)).toEqual({ ok: true, value: { base: BASE, parent, warnings: [] } });
    expect(await checkMembers([root, member(9)])).toMatchObject({ ok: true, value: { parent: null } });
  });

  it('may be files without lineage, with a warning for each', async () => {
    const parent = await idOf(root);
    const mixed = await checkMembers([foreign('first'), member(4, parent), foreign('last\n')]);
    expect(mixed).toMatchObject({ ok: true, value: { base: BASE, parent } });
    const warnings = mixed.ok ? mixed.value.warnings : [];
    expect(warnings.map((text) => text.split(' ')[0])).toEqual(['first', 'last\\u000a']);
    expect(warnings[0]).toContain(parent);
    expect(await checkMembers([foreign('a'), foreign('b')])).toMatchObject({
      ok: true,
      value: {
        base: null,
        parent: null,
        warnings: [{}, {}].map(() => expect.stringContaining('the base itself')),
      },
    });
  });
});

it('refuses members of different bases, and an empty list', async () => {
  const other = member(4, null, { config: { base: 'other', parent: null } });
  const message = await refused('base_mismatch', [foreign('x'), root, other]);
  expect(message).toContain('member-4 is for the base other, but member-1 is for tiny-llama');
  await refused('empty_adapter', []);
});
