/** Rows are checked before they are sent; jobs and their stories are read page by page. */
import { describe, expect, it } from 'vitest';
import { createClient } from '../../dashboard/api/client.ts';
import { checkRows, readStory, sendRows } from '../../dashboard/api/training.ts';
import type { JobEventView } from '../../protocol/fine-tuning.ts';
import { MAX_ROWS_FILE_BYTES } from '../../protocol/training-jobs.ts';
import { sampleJob } from '../contracts/sample-training.ts';

const fileOf = (text: string, name = 'rows.jsonl') => new File([text], name);
const GOOD = '{"user": "a", "expected": "b"}';
const PAIR = '{"user": "a", "chosen": "b", "rejected": "c"}';

describe('checkRows', () => {
  it('counts good rows, and names the line of each bad one', async () => {
    const checked = await checkRows(fileOf(`${GOOD}\n\n{"user": "a"}\nno\n`), null);
    expect(checked).toMatchObject({ method: 'sft', format: 'jsonl', good: 1, problemCount: 2 });
    expect(checked.problems).toEqual([
      { line: 3, problem: expect.stringContaining("The row needs 'messages'") as string },
      { line: 4, problem: 'The line is not JSON.' },
    ]);
  });

  it('takes the method that the rows are for, unless one is chosen', async () => {
    expect(await checkRows(fileOf(PAIR), null)).toMatchObject({ method: 'dpo', good: 1, problemCount: 0 });
    expect(await checkRows(fileOf(PAIR), 'sft')).toMatchObject({ method: 'sft', good: 0, problemCount: 1 });
    expect(await checkRows(fileOf('no'), null)).toMatchObject({ method: 'sft', problemCount: 1 });
  });

  it('finds what rows without answers train, unless they are of several kinds', async () => {
    const head = async (...rows: object[]) => {
      const checked = await checkRows(fileOf(rows.map((row) => JSON.stringify(row)).join('\n')), null);
      return checked.problemCount === 0 ? checked.head : checked.problems;
    };
    const [yes, no] = ['yes', 'no'].map((label) => ({ text: 'a', label }));
    expect(await head(yes!, no!, yes!)).toEqual({ labels: ['no', 'yes'] });
    expect(await head({ text: 'a', score: 0.5 })).toEqual({ labels: null });
    expect(await head({ user: 'a', expected: 'b' })).toBeNull();
    expect(await head(yes!, { user: 'a', expected: 'b' })).toEqual([
      { line: 2, problem: expect.stringContaining('The row has no label, unlike others.') },
    ]);
    expect(await head(yes!, yes!)).toEqual([
      { line: 1, problem: expect.stringContaining('The rows have one label.') },
    ]);
    expect(await head({ user: 'a', expected: 'b' }, { text: 'a', score: 1 })).toEqual([
      { line: 2, problem: expect.stringContaining('The row has a score, unlike others.') },
    ]);
  });

  it('reads many rows', async () => {
    expect(await checkRows(fileOf(`${GOOD}\n`.repeat(5_001)), null)).toMatchObject({ good: 5_001 });
  });

  it.each([
    ['', 'The file has no rows.'],
    ['\n \n', 'The file has no rows.'],
    [`[${GOOD}]`, 'The file is a JSON array.'],
  ])('refuses %j as a whole', async (text, why) => {
    const checked = await checkRows(fileOf(text), null);
    expect(checked).toMatchObject({ good: 0, problemCount: 1 });
    expect(checked.problems[0]?.problem).toContain(why);
  });

  it('refuses a file that is too large without reading it', async () => {
    const large = { name: 'a.jsonl', size: MAX_ROWS_FILE_BYTES + 1 } as File;
    expect((await checkRows(large, null)).problems[0]?.problem).toContain('Split it.');
  });
});

describe('sendRows', () => {
  const sent = async (file: File) => {
    let form: FormData | null = null;
    const client = createClient('ga_x', (_, init) => {
      form = init?.body as FormData;
      expect(new Headers(init?.headers).get('content-type')).toBeNull();
      const answer = {
        ...{ id: `file-${'a'.repeat(24)}`, object: 'file', bytes: 1, created_at: 0, expires_at: 1 },
        ...{ filename: 'x', purpose: 'fine-tune', status: 'processed' },
      };
      return Promise.resolve(Response.json(answer));
    });
    const done = await sendRows(client, await checkRows(file, null));
    const given = form as unknown as FormData;
    const rows = given.get('file') as File;
    return { done, purpose: given.get('purpose'), name: rows.name, text: await rows.text() };
  };

  it('sends the file as it is', async () => {
    expect(await sent(fileOf(GOOD))).toEqual({
      done: { ok: true, value: `file-${'a'.repeat(24)}` },
      ...{ purpose: 'fine-tune', name: 'rows.jsonl', text: GOOD },
    });
  });

  it('writes CSV as JSON Lines, which jobs take', async () => {
    const csv = 'user,expected\n"a, b",c\nd,"e\nf"\n';
    expect(await sent(fileOf(csv, 'My rows.CSV'))).toMatchObject({
      name: 'My rows.jsonl',
      text: '{"user":"a, b","expected":"c"}\n{"user":"d","expected":"e\\nf"}\n',
    });
  });
});

describe('readStory', () => {
  const event = (number: number): JobEventView => ({
    ...{ id: `ftevent-${'0'.repeat(24)}-${number}`, object: 'fine_tuning.job.event', created_at: 1 },
    ...{ level: 'info', message: String(number), type: 'message', data: null },
  });
  const job = sampleJob();
  const { id } = job;
  /** An edge with this many events, three a page. */
  const edge = (total: number) => {
    const asked: string[] = [];
    const client = createClient('ga_x', (path) => {
      const url = new URL(String(path), 'http://edge');
      asked.push(url.pathname.endsWith('/events') ? (url.searchParams.get('after') ?? 'newest') : 'job');
      if (!url.pathname.endsWith('/events')) return Promise.resolve(Response.json(job));
      const after = url.searchParams.get('after');
      const before = after === null ? total + 1 : Number(after.split('-').at(-1));
      const data = [before - 1, before - 2, before - 3].filter((number) => number > 0).map(event);
      const [first, last] = [data[0]?.id ?? null, data.at(-1)?.id ?? null];
      return Promise.resolve(
        Response.json({ object: 'list', data, first_id: first, last_id: last, has_more: before > 4 }),
      );
    });
    return { client, asked };
  };

  it('reads all pages at first, and later those that are new', async () => {
    const first = edge(7);
    const story = await readStory(first.client, id, []);
    expect(story.ok && story.value.events.map(({ message }) => message)).toEqual([
      '1',
      '2',
      '3',
      '4',
      '5',
      '6',
      '7',
    ]);
    expect(first.asked).toEqual(['job', 'newest', event(5).id, event(2).id]);
    const later = edge(9);
    const more = await readStory(later.client, id, story.ok ? story.value.events : []);
    expect(more.ok && more.value.events).toHaveLength(9);
    expect(later.asked).toEqual(['job', 'newest']);
  });
});
