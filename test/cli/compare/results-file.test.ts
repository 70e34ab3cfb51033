import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EXIT } from '../../../cli/cli-error.ts';
import { openResults, type Answer, type Heading } from '../../../cli/compare/results-file.ts';

const HEADING: Heading = { kind: 'graft_compare', sha256: 'aa', max_tokens: 16, temperature: 0, seed: 1 };
const ANSWER: Answer = { kind: 'answer', line: 3, name: 'a', adapter: 'a@1', text: 'é\n', ended: true };

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-results-'));
});
beforeEach(() => {
  file = path.join(folder, `${Math.random()}.jsonl`);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

describe('openResults', () => {
  it('keeps answers and verdicts, whichever name of a verdict comes first', async () => {
    const first = await openResults(file, HEADING);
    first.add(ANSWER);
    first.add({
      kind: 'verdict',
      judge: 'me',
      line: 3,
      names: ['a', 'b'],
      winner: 'b',
      skipped: false,
      asked: [{ first: 'b', chose: 'b' }],
    });
    const again = await openResults(file, HEADING);
    expect(again.answer(3, 'a')).toEqual(ANSWER);
    expect(again.answer(3, 'b')).toBeUndefined();
    expect(again.adapterOf('a')).toBe('a@1');
    expect(again.verdict('me', 3, 'b', 'a')).toMatchObject({ winner: 'b' });
    expect(again.verdict('other', 3, 'a', 'b')).toBeUndefined();
  });

  it('drops a truncated last line, and continues after it', async () => {
    (await openResults(file, HEADING)).add(ANSWER);
    await appendFile(file, '{"kind":"answer","line":4,"na');
    const again = await openResults(file, HEADING);
    expect(again.answer(4, 'a')).toBeUndefined();
    again.add({ ...ANSWER, line: 5 });
    expect((await openResults(file, HEADING)).answer(5, 'a')).toMatchObject({ line: 5 });
    expect((await readFile(file, 'utf8')).trim().split('\n')).toHaveLength(3);
  });

  it.each([
    [{ ...HEADING, sha256: 'bb' }, /other prompts/],
    [{ ...HEADING, max_tokens: 17 }, /--max-tokens 16, not 17/],
    [{ ...HEADING, temperature: 1 }, /--temperature 0, not 1/],
    [{ ...HEADING, seed: 2 }, /--seed 1, not 2/],
  ])('refuses the results of another comparison %#', async (heading, message) => {
    await openResults(file, HEADING);
    await expect(openResults(file, heading)).rejects.toMatchObject({
      exitCode: EXIT.usage,
      message: expect.stringMatching(message) as string,
    });
  });

  it.each(['important notes', 'important notes\n', '{"kind":"graft_compare"}\n'])(
    'refuses and leaves alone a file that is not ours (%j)',
    async (content) => {
      await writeFile(file, content);
      await expect(openResults(file, HEADING)).rejects.toMatchObject({ exitCode: EXIT.usage });
      expect(await readFile(file, 'utf8')).toBe(content);
    },
  );

  it('names the line that it cannot read', async () => {
    (await openResults(file, HEADING)).add(ANSWER);
    await appendFile(file, '{"kind":"answer"}\n');
    await expect(openResults(file, HEADING)).rejects.toThrow(/line 3: not written by/);
  });

  it('reports that it cannot write there', async () => {
    await expect(openResults(path.join(folder, 'no', 'such'), HEADING)).rejects.toThrow(/cannot be written/);
    await expect(openResults(folder, HEADING)).rejects.toThrow(/cannot be read/);
  });
});
