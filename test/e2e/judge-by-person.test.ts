/** `graft compare --judge me` and `graft login` on a real terminal; the server is a stub. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { generateApiKey } from '../../protocol/identity.ts';
import { runGraft } from './graft-process.ts';
import { noTerminal, onTerminal, type Step } from './terminal.ts';

const PROMPTS = ['one', 'two', 'three', 'four'];
const KEYS = 'q: end';
/** Answers a question. */
const answers = (...keys: string[]): Step[] =>
  keys.flatMap((type) => [{ see: KEYS }, { raw: true }, { type }]);

let server: Server;
let url: string;
/** Of the stub: takes a request and never answers. */
let silent = false;
let folder: string;
let results: string;

beforeAll(async () => {
  server = createServer((request, response) => {
    void json(request)
      .catch(() => ({}))
      .then((body) => {
        if (silent) return;
        const { model = '', messages = [] } = body as { model?: string; messages?: { content: string }[] };
        const [name] = model.split('@');
        response.writeHead(200, { 'content-type': 'application/json', 'x-graft-adapter': `${name}@1` });
        const content = `${name} says ${messages.at(-1)?.content}`;
        response.end(JSON.stringify({ choices: [{ finish_reason: 'stop', message: { content } }] }));
      });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(async () => {
  silent = false;
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-judge-'));
  results = path.join(folder, 'results.jsonl');
  await writeFile(
    path.join(folder, 'prompts.jsonl'),
    PROMPTS.map((user) => `${JSON.stringify({ user })}\n`).join(''),
  );
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const env = () => ({ HOME: folder, GRAFT_URL: url, GRAFT_KEY: 'gk_test' });
const ARGS = ['compare', 'anna', 'berta', 'prompts.jsonl', '--judge', 'me', '--out', 'results.jsonl'];
const judge = (...steps: Step[]) => onTerminal(ARGS, { cwd: folder, env: env(), steps });
const verdicts = async () =>
  (await readFile(results, 'utf8'))
    .split('\n')
    .filter((line) => line.includes('"verdict"'))
    .map((line) => JSON.parse(line) as { line: number; winner: string | null; skipped: boolean });
const fine = { stuck: null, restored: true, cursor: true, signal: null };

describe.skipIf(noTerminal !== null)(`on a terminal${noTerminal === null ? '' : `: ${noTerminal}`}`, () => {
  it('takes 1, 2, t and s, and sums up', async () => {
    const end = await judge(...answers('1', '2', 'T', 's'));
    expect(end).toMatchObject({ ...fine, code: EXIT.ok });
    expect(end.output).toContain('4 prompts, judge: me, 1 skipped');
    const [first, second, tie, skipped] = await verdicts();
    // Which was shown first is in the text that the person saw.
    const shown = (line: number, place: number) =>
      [...end.output.matchAll(new RegExp(`^(anna|berta) says ${PROMPTS[line - 1]}$`, 'gm'))][place]?.[1];
    expect([first?.winner, second?.winner]).toEqual([shown(1, 0), shown(2, 1)]);
    expect([tie, skipped]).toMatchObject([
      { line: 3, winner: null, skipped: false },
      { line: 4, winner: null, skipped: true },
    ]);
  });

  it('ends with q and with Ctrl-D, shows the result so far, and goes on later', async () => {
    const ended = await judge(...answers('1', 'q'));
    expect(ended).toMatchObject({ ...fine, code: EXIT.ok });
    expect(ended.output).toMatch(/ended early[^]*AGAINST/);
    const next = await judge({ see: '1 of 3, line 2' }, ...answers('t', '\u0004'));
    expect(next).toMatchObject({ ...fine, code: EXIT.ok });
    expect((await verdicts()).map(({ line }) => line)).toEqual([1, 2]);
  });

  it.each([
    ['Ctrl-C', { type: '\u0003' }],
    ['SIGTERM', { signal: 'SIGTERM' }],
  ] as const)('%s ends it, on a line of its own, and keeps the verdicts', async (_, step) => {
    const end = await judge(...answers('2'), { see: KEYS }, { raw: true }, step);
    expect(end).toMatchObject({ ...fine, code: EXIT.interrupted });
    expect(end.output).toMatch(/q: end \n$/);
    expect(end.output).not.toContain('AGAINST');
    expect(await verdicts()).toHaveLength(1);
  });

  it('does not take the digits and letters that other keys send', async () => {
    // Home, Insert, Ctrl-right, F1, Alt-t, Escape.
    const others = ['\u001b[1~', '\u001b[2~', '\u001b[1;5C', '\u001bOP', '\u001bt', '\u001b'].join('');
    const end = await judge({ see: KEYS }, { raw: true }, { type: others }, { type: 'x' }, { type: 'q' });
    expect(end).toMatchObject({ ...fine, code: EXIT.ok });
    expect(await verdicts()).toEqual([]);
  });

  it('leaves raw mode with the key that login asks for: Ctrl-C works while the server is silent', async () => {
    silent = true;
    const key = generateApiKey('gk');
    const end = await onTerminal(['login', '--url', url], {
      cwd: folder,
      env: { HOME: folder },
      steps: [
        { see: '(not shown): ' },
        { raw: true },
        { type: `${key}\r` },
        { raw: false },
        { type: '\u0003' },
      ],
    });
    expect(end).toMatchObject({ stuck: null, restored: true, signal: 'SIGINT' });
    expect(end.output).not.toContain(key);
  });
});

it('is refused where there is no terminal', async () => {
  const { code, stderr } = await runGraft(ARGS, { cwd: folder, env: env(), stdin: '1' });
  expect([code, stderr]).toEqual([EXIT.usage, expect.stringContaining('--judge me needs a terminal.')]);
});
