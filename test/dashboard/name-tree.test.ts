import fc from 'fast-check';
import { expect, it } from 'vitest';
import { countNames, type NameNode, nameTree } from '../../dashboard/model/names.ts';

const entry = (name: string) => ({
  ...{ name, owner: 'o', version: 1, latest: 1, alias: null, strict: false, description: null, tags: [] },
});
/** `path` of what is published, `path?` of what is only on the way to it. */
const outline = (nodes: readonly NameNode[]): string[] =>
  nodes.flatMap(({ path, entry: own, children }) => [own === null ? `${path}?` : path, ...outline(children)]);

it.each<[string[], string[]]>([
  [[], []],
  [
    ['b', 'a'],
    ['a', 'b'],
  ],
  [['a/b/c'], ['a?', 'a/b?', 'a/b/c']],
  // What is below comes before what is itself published, and names that only begin alike.
  [
    ['a/b', 'a-b', 'ab', 'a', 'a/a'],
    ['a', 'a/a', 'a/b', 'a-b', 'ab'],
  ],
  [['__proto__/constructor'], ['__proto__?', '__proto__/constructor']],
])('%j stand as %j', (names, expected) => {
  expect(outline(nameTree(names.map(entry)))).toEqual(expected);
});

it('keeps the details of a name, and counts those at and below a node', () => {
  const [a] = nameTree([entry('a/b'), { ...entry('a'), owner: 'me', version: null }, entry('a/c/d')]);
  expect(a?.entry).toMatchObject({ owner: 'me', version: null });
  expect(a?.children.map(({ segment }) => segment)).toEqual(['b', 'c']);
  expect(countNames(a!)).toBe(3);
  expect(a?.children.map(countNames)).toEqual([1, 1]);
});

it('contains each name once, below its parents, in any input order', () => {
  const segment = fc.stringMatching(/^[a-c]{1,2}$/);
  const names = fc.uniqueArray(fc.array(segment, { minLength: 1, maxLength: 4 }).map((all) => all.join('/')));
  fc.assert(
    fc.property(names, (all) => {
      const tree = nameTree(all.map(entry));
      expect(nameTree([...all].reverse().map(entry))).toEqual(tree);
      expect(tree.reduce((sum, node) => sum + countNames(node), 0)).toBe(all.length);
      const found = outline(tree).filter((path) => !path.endsWith('?'));
      expect([...found].sort()).toEqual([...all].sort());
      const check = (node: NameNode): void => {
        for (const child of node.children) {
          expect(child.path).toBe(`${node.path}/${child.segment}`);
          check(child);
        }
      };
      tree.forEach(check);
    }),
  );
});
