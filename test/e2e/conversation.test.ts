/** `graft run NAME` on a real terminal; the server is a stub. */
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { json } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EXIT } from '../../cli/cli-error.ts';
import { runGraft } from './graft-process.ts';
import { noTerminal, onTerminal, type Step } from './terminal.ts';

interface Asked {
  messages: { role: string; content: string }[];
  [field: string]: unknown;
}

let server: Server;
let url: string;
let folder: string;
let asked: Asked[];
/** Of the stub: what it says, and whether it then falls silent, once. */
let says: string;
let endless: boolean;

const chunk = (content: string): string =>
  `data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`;

function answer(response: ServerResponse): void {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'x-graft-adapter': 'anna@1' });
  response.write(chunk(says));
  if (!endless) response.end('data: [DONE]\n\n');
  endless = false;
}

beforeAll(async () => {
  server = createServer((request, response) => {
    void json(request).then((body) => {
      asked.push(body as Asked);
      answer(response);
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
  asked = [];
  says = 'fine';
  endless = false;
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-conversation-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const env = () => ({ HOME: folder, GRAFT_URL: url, GRAFT_KEY: 'gk_test' });
const PROMPT = 'anna> ';
const talk = (...steps: Step[]) => onTerminal(['run', 'anna'], { cwd: folder, env: env(), steps });
const type = (text: string): Step[] => [{ see: PROMPT }, { raw: true }, { type: text }];
const END: Step[] = type('\u0004');
const fine = { stuck: null, restored: true, cursor: true, signal: null };
const contents = () =>
  asked.map(({ messages }) => messages.map(({ role, content }) => `${role}: ${content}`));

describe.skipIf(noTerminal !== null)(`on a terminal${noTerminal === null ? '' : `: ${noTerminal}`}`, () => {
  it('keeps what was said, changes the system message and forgets', async () => {
    const turns = ['one\r', '/system Be brief.\r', 'two\r', '/reset\r', '/help\r', 'three\r', '/exit\r'];
    const end = await talk(...turns.flatMap(type));
    expect(end).toMatchObject({ ...fine, code: EXIT.ok });
    expect(contents()).toEqual([
      ['user: one'],
      ['system: Be brief.', 'user: one', 'assistant: fine', 'user: two'],
      ['system: Be brief.', 'user: three'],
    ]);
    expect(end.output).toContain('/reset         forget the conversation');
  });

  it('takes pasted lines as one turn', async () => {
    const end = await talk(...type('\u001b[200~first\nsecond\u001b[201~\r'), ...END);
    expect(end).toMatchObject({ ...fine, code: EXIT.ok });
    expect(contents()).toEqual([['user: first\nsecond']]);
  });

  it('shows nothing that is typed while an answer comes, and takes it afterwards', async () => {
    endless = true;
    says = 'fine so far';
    const end = await talk(
      ...type('long\r'),
      ...[{ see: 'fine so' }, { type: 'next' }, { type: '\u0003' }],
      ...type('\r'),
      ...END,
    );
    expect(end).toMatchObject({ ...fine, code: EXIT.ok });
    expect(end.output).toMatch(/fine so far\n[^\n]*anna> [^\n]*next/);
    // Ctrl-C ended the first, which is as if it had not been said.
    expect(contents()).toEqual([['user: long'], ['user: next']]);
  });

  it('breaks lines between words', async () => {
    says = 'wonderful words '.repeat(12);
    const end = await talk(...type('go\r'), ...END);
    expect(end).toMatchObject({ ...fine, code: EXIT.ok });
    expect(end.output).toContain(`${'wonderful words '.repeat(4)}wonderful words\nwonderful`);
  });

  it('keeps what was typed for the next time, for its owner alone', async () => {
    await talk(...type('remember me\r'), ...END);
    const file = path.join(folder, '.config/graft/history');
    expect(await readFile(file, 'utf8')).toBe('remember me\n');
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    const up = '\u001b[A';
    await talk(...type(`${up}\r`), ...END);
    expect(contents()).toEqual([['user: remember me'], ['user: remember me']]);
  });
});

it('passes on what answers are made with', async () => {
  const flags = ['--top-p', '0.9', '--seed', '7', '--stop', 'END', '--stop', '\n\n', '--user', 'u1'];
  const { code, stdout } = await runGraft(['run', 'anna', 'why?', ...flags, '--system', 'S'], {
    cwd: folder,
    env: env(),
  });
  expect([code, stdout]).toEqual([EXIT.ok, 'fine\n']);
  expect(asked[0]).toMatchObject({ top_p: 0.9, seed: 7, stop: ['END', '\n\n'], user: 'u1' });
  expect(contents()).toEqual([['system: S', 'user: why?']]);
});
