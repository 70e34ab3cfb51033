/**
 * Every command of README and docs, run as a reader would: in order, page by page, each page with a fresh `npm start`
 * of its own, and last what deletes something. What a page marks with `<!-- dry: why -->`, and what is in LOOKED_UP, is
 * only looked up (test/docs/commands.test.ts).
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { describe, expect, it, type TestContext, vi } from 'vitest';
import { z } from 'zod';
import { findCommand } from '../../cli/command-list.ts';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { createOutput } from '../../cli/output.ts';
import { type CommandBlock, commandBlocks, likeACheckout, PAGES, ROOT } from '../docs/code-blocks.ts';
import { freePort, startGraft } from '../e2e/graft-process.ts';
import { WAIT_MS } from '../setup/slow.ts';

/** The checkout that this runs in is installed, and the stack of the page is `npm start`. */
const DONE = ['npm ci', 'npm start', 'CORS_ORIGINS=http://127.0.0.1:8790 npm start'];

/** What is not run here, and why. */
const LOOKED_UP: readonly [command: RegExp, why: string][] = [
  [/^graft (dev|origin|edge|deploy|secrets)\b/, 'docs/run, and test/e2e'],
  [/^graft (pull|base export) .*hf:/, 'fetches from a hub'],
  [/^graft publish (hf|s3|https?):/, 'fetches from elsewhere: test/cli/adapter-files/fetch-adapter.test.ts'],
  [/^graft train /, 'trains for minutes: test/e2e/train.test.ts'],
  [/^graft improve /, 'needs decisions of users, and trains for minutes: test/e2e/improve.test.ts'],
  [/^graft base export /, 'writes the base in parts for minutes: examples/in-the-browser/README.md'],
  [/^graft (login|logout)\b/, 'needs a server elsewhere: test/e2e/login.test.ts'],
  [/^graft restore-backup /, 'needs an empty server: test/e2e/backup.test.ts'],
  [/^graft run medicine\/cardiology$|--judge me\b/, 'needs a terminal: test/e2e/conversation.test.ts'],
  [/completion zsh/, 'needs zsh'],
  [/experiment promote support\/intent$/, 'needs a proposed winner: test/check/ab-test.test.ts'],
  [/^npm run sim -- --(seeds|minutes)/, 'runs for minutes: test/check/simulation.test.ts'],
  [/examples\/improve\/run\.mjs$/, 'trains and asks for ten minutes; the loop: test/e2e/improve.test.ts'],
  [/examples\/ab-test\/\w+\.mjs$/, 'test/check/ab-test.test.ts runs it, and compares what it prints'],
];

const lookedUp = (text: string): boolean =>
  LOOKED_UP.some(([pattern]) => pattern.test(text.replace(/^npx /, '')));

/** They run until Ctrl-C; they are ready when they have printed this. */
const SERVERS: readonly [command: RegExp, ready: RegExp][] = [
  [/^graft origin /, /serving .* on http/],
  [/^graft edge /, /the edge is on/],
  [/^node examples\/in-the-browser\/serve\.mjs/, /Open http/],
];

/** What these take away others may need: they come last. */
const DESTRUCTIVE =
  /^(npx )?graft (rm|erase|retire|restore\b|gc|repair|limits lift|keys (rotate|revoke)|experiment (kill|promote))/;

/** Whether it would ask on a terminal before it does it. */
async function asks(text: string): Promise<boolean> {
  const [, verb = '', action = ''] = /^(?:npx )?graft ([\w-]+) ?(\w*)/.exec(text) ?? [];
  if (/--(yes|dry-run)\b/.test(text) || (verb === 'experiment' && action !== 'promote')) return false;
  return 'yes' in ((await findCommand(verb)?.load())?.default.args ?? {});
}

const Local = z.object({ url: z.string(), key: z.string(), originUrl: z.string() });

/** Somebody who reads one page, in a folder of their own. */
class Reader {
  readonly folder: string;
  /** What stands in the page, and what it is here. */
  readonly names = new Map<string, string>();
  readonly #remove: () => void;
  readonly #running: ChildProcess[] = [];

  /** @param inCheckout else the folder has the examples alone. */
  constructor(inCheckout: boolean) {
    const { folder, remove } = likeACheckout();
    this.#remove = remove;
    this.folder = inCheckout ? folder : path.join(folder, '../work');
    if (!inCheckout) {
      mkdirSync(this.folder);
      symlinkSync(path.join(ROOT, 'examples'), path.join(this.folder, 'examples'));
    }
    mkdirSync(this.#beside('bin'));
    this.#program('graft', `exec '${process.execPath}' '${path.join(ROOT, 'bin/graft.mjs')}' "$@"`);
    // A refusal is no answer.
    this.#program('curl', 'PATH=${PATH#*:} exec curl --silent --show-error --fail-with-body "$@"');
    this.export({});
  }

  #beside(name: string): string {
    return path.join(this.folder, '..', name);
  }

  #program(name: string, script: string): void {
    writeFileSync(this.#beside(`bin/${name}`), `#!/bin/sh\n${script}\n`);
    chmodSync(this.#beside(`bin/${name}`), 0o755);
  }

  #env(): Record<string, string> {
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(GRAFT_|npm_|FORCE_COLOR$)/.test(name),
    );
    return {
      ...(Object.fromEntries(inherited) as Record<string, string>),
      PATH: `${this.#beside('bin')}:${process.env.PATH}`,
      HOME: path.dirname(this.folder),
      GRAFT_CACHE: cacheFolder(process.env),
      NO_COLOR: '1',
      WRANGLER_SEND_METRICS: 'false',
    };
  }

  /** Variables of the reader's shell. */
  export(variables: Record<string, string>): void {
    const lines = Object.entries(variables).map(([name, value]) => `export ${name}=${value}\n`);
    writeFileSync(this.#beside('exports'), lines.join(''));
  }

  /** `npm start`, on other ports. */
  async start(): Promise<void> {
    const env = { GRAFT_CACHE: cacheFolder(process.env), CORS_ORIGINS: 'http://127.0.0.1:8790' };
    const stack = startGraft(['dev', '--port', '0', '--origin-port', '0', '--json'], {
      cwd: this.folder,
      env,
    });
    this.#running.push(stack.child);
    const { url, key, originUrl } = Local.parse(JSON.parse((await stack.sees(/^\{.*\}$/m))[0]));
    this.names.set('http://127.0.0.1:8787', url).set('http://127.0.0.1:8788', originUrl);
    this.export({ GRAFT_KEY: key });
  }

  /** @returns what it prints. @throws with all that it said when it fails. */
  async run(command: string): Promise<string> {
    let text = command.replaceAll(/\s+#.*$/gm, '').trim();
    if (DONE.includes(text)) return '';
    for (const [shown, real] of this.names) text = text.replaceAll(shown, real);
    if (await asks(text)) text += ' --yes';
    const server = SERVERS.find(([pattern]) => pattern.test(text));
    const script = `set -eo pipefail; . '${this.#beside('exports')}'\n${text}\nexport -p > '${this.#beside('exports')}'`;
    const child = spawn('bash', ['-c', script.replace(' --watch', '')], {
      cwd: this.folder,
      env: this.#env(),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let [stdout, stderr] = ['', ''];
    const ended = new Promise((resolve) => child.once('close', resolve));
    child.stdout.setEncoding('utf8').on('data', (piece: string) => (stdout += piece));
    child.stderr.setEncoding('utf8').on('data', (piece: string) => (stderr += piece));
    const ready = new Promise((resolve) => {
      const look = (): void => {
        if (server?.[1].test(stdout + stderr) === true) resolve('ready');
      };
      child.stdout.on('data', look);
      child.stderr.on('data', look);
    });
    this.#running.push(child);
    // Whoever waits for what does not come is told of which command.
    const limit = setTimeout(() => process.kill(-child.pid!, 'SIGKILL'), WAIT_MS);
    const end = await Promise.race([ended, ready]);
    clearTimeout(limit);
    if (end === (server === undefined ? 0 : 'ready')) return stdout;
    throw new Error(`${text}\nended with ${String(end)}\n${stdout}\n${stderr}`);
  }

  async end(): Promise<void> {
    for (const child of this.#running.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once('close', resolve));
      process.kill(-child.pid!, 'SIGTERM');
      await ended;
    }
    this.#remove();
  }
}

/** Where a page does not begin in a checkout. */
const ELSEWHERE = ['docs/reference/commands.md', 'docs/run/keys-and-limits.md'];

const example = (name: string): string => path.join(ROOT, 'examples/adapters', name);

/** What a page takes for granted. */
const BEFORE: Readonly<Record<string, (reader: Reader) => Promise<void>>> = {
  'docs/start.md': layPeftFolders,
  'docs/guides/publish.md': layPeftFolders,
  'docs/guides/ab-test.md': async (reader) => {
    cpSync(example('intent-v2'), path.join(reader.folder, 'intent-v2'), { recursive: true });
    await reader.run('graft erase support/intent');
    await reader.run(`graft publish '${example('intent-v1')}' --name support/intent`);
  },
  'docs/guides/judge.md': async ({ folder }) => {
    const rows = readFileSync(path.join(ROOT, 'examples/ab-test/rows.jsonl'), 'utf8').split('\n').slice(0, 2);
    writeFileSync(path.join(folder, 'prompts.jsonl'), rows.join('\n'));
  },
  'docs/run/alerts.md': prepareWebhook,
  'docs/run/backups.md': prepareNames,
  'docs/run/keys-and-limits.md': prepareKey,
  'docs/reference/commands.md': async (reader) => {
    await prepareNames(reader);
    await prepareFiles(reader);
    await prepareWebhook(reader);
  },
};

/** What a training run wrote, and the next one. */
async function layPeftFolders({ folder }: Reader): Promise<void> {
  cpSync(example('intent-v1'), path.join(folder, 'my-peft-folder'), { recursive: true });
  cpSync(example('intent-v2'), path.join(folder, 'my-next-folder'), { recursive: true });
}

/** The key and the request that pages name. */
async function prepareKey(reader: Reader): Promise<void> {
  const made = await reader.run('graft keys create --scopes "medicine/**" --keep-prompts 24h --json');
  const { id, key } = z.object({ id: z.string(), key: z.string() }).parse(JSON.parse(made));
  reader.names.set('key_0123456789abcdef', id);
  const head = await reader.run(
    `curl -D - -o /dev/null http://127.0.0.1:8787/v1/chat/completions -H "authorization: Bearer ${key}" -H 'content-type: application/json' -d '{"model":"medicine","max_tokens":1,"messages":[{"role":"user","content":"Hi"}]}'`,
  );
  const request = /^x-request-id: (.*)\r$/m.exec(head)![1]!;
  reader.names.set('2f0c8d6e-7b1a-4c55-9d3e-1f0c8d6e7b1a', request);
  // Kept prompts are written after the answer.
  await vi.waitFor(() => reader.run(`graft requests --show ${request}`));
}

/** The webhook that pages name, and who receives its messages. */
async function prepareWebhook(reader: Reader): Promise<void> {
  const receiver = createServer((_, response) => void response.end()).listen(0, '127.0.0.1');
  receiver.unref();
  await once(receiver, 'listening');
  const { port } = receiver.address() as AddressInfo;
  const made = await reader.run(`graft webhook add http://127.0.0.1:${port}/ --json`);
  reader.names.set('hook_0123456789abcdef', z.object({ id: z.string() }).parse(JSON.parse(made)).id);
}

/** The names, versions and tenants that pages speak of. */
async function prepareNames(reader: Reader): Promise<void> {
  await prepareKey(reader);
  const publish = (folder: string, name: string): Promise<string> =>
    reader.run(`graft publish '${example(folder)}' --name ${name}`);
  for (let version = 1; version <= 7; version += 1)
    await publish(version % 2 === 1 ? 'intent-v1' : 'intent-v2', 'alice/notes');
  await publish('medicine', 'style/brief');
  await publish('medicine', 'medicine/trials');
  for (const version of ['intent-v1', 'intent-v2'])
    await reader.run(`graft publish '${example(version)}' --name support/intent --stage`);
  for (const tenant of ['alice', 'clinic']) await reader.run(`graft keys create --tenant ${tenant}`);
  await reader.run('graft limits set alice --rpm 100');
}

async function prepareFiles(reader: Reader): Promise<void> {
  const { folder } = reader;
  const copies: Record<string, string> = {
    ...{ notes: 'intent-v2', 'out/checkpoint-500': 'intent-v1', 'out/child': 'cardiology' },
    ...{ 'out/notes': 'intent-v2', medicine: 'medicine', cardiology: 'cardiology', style: 'medicine' },
    ...{ facts: 'cardiology', old: 'intent-v1', new: 'intent-v2' },
  };
  for (const [to, from] of Object.entries(copies))
    cpSync(example(from), path.join(folder, to), { recursive: true });
  cpSync(path.join(ROOT, 'test/fixtures/trained/mlx-f32'), path.join(folder, 'adapters/mlx'), {
    recursive: true,
  });
  const base = await ensurePinnedBase({
    cache: cacheFolder(process.env),
    output: createOutput({ json: true }),
  });
  symlinkSync(base, path.join(folder, 'model.gguf'));
  const rows = readFileSync(path.join(ROOT, 'test/fixtures/tasks/intent.jsonl'), 'utf8')
    .split('\n')
    .slice(0, 2);
  for (const name of ['rows.jsonl', 'prompts.jsonl']) writeFileSync(path.join(folder, name), rows.join('\n'));
  writeFileSync(path.join(folder, 'question.txt'), 'Name three fruits.');
  mkdirSync(path.join(folder, '../.config/fish/completions'), { recursive: true });
  for (const name of ['notes.gguf', 'bob.gguf'])
    await reader.run(`graft convert '${example('intent-v1')}' --to gguf --base model.gguf -o ${name}`);
  await reader.run(`graft pack '${example('medicine')}' -o medicine.safetensors`);
}

/** What one command takes for granted beyond its page: it is one of several that a reader would choose from. */
const FIRST: readonly [command: RegExp, first: string][] = [
  [
    /graft experiment create .*--(judge|variant control=@3)/,
    'graft experiment stop support/intent; graft experiment archive support/intent',
  ],
  [/experiment status support\/intent --watch/, 'graft experiment create support/intent @2 --start'],
  [/^graft experiment kill/, 'graft experiment create support/intent @2 --start'],
  [/^graft download alice\/notes$/, 'rm -r notes'],
  [/^graft (rollback .*--expect 5|retire|rm .*@2)/, 'graft restore alice/notes; graft promote alice/notes@5'],
  [/^graft (rm|erase|retire) alice\/notes\b/, 'graft unpin alice/notes; graft erase alice/notes/bob --yes'],
  [/^graft restore alice\/notes$/, 'graft rm alice/notes --yes'],
  [/^graft restore alice\/notes@2$/, 'graft restore alice/notes; graft rm alice/notes@2 --yes'],
  [
    /^graft (rm|restore) medicine/,
    'graft experiment stop support/intent; graft experiment archive support/intent',
  ],
  [/^graft restore medicine/, 'graft rm medicine --cascade --yes'],
];

/** Without what another run has otherwise: ids, times and numbers; of JSON what it is made of. */
function formOf(output: string): string {
  const line = output
    .trim()
    .split('\n')[0]!
    .replace(/^data: /, '');
  const keysOf = (value: unknown): unknown =>
    Array.isArray(value)
      ? value.slice(0, 1).map(keysOf)
      : typeof value === 'object' && value !== null
        ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, keysOf(inner)]))
        : typeof value;
  if (line.startsWith('{')) return JSON.stringify(keysOf(JSON.parse(line)));
  return line.replaceAll(/\d+/g, '#').replaceAll(/\s+/g, ' ');
}

/** Ends with the test that it is for. */
function newReader(inCheckout: boolean, { onTestFinished }: TestContext): Reader {
  const reader = new Reader(inCheckout);
  onTestFinished(() => reader.end());
  return reader;
}

const isRun = ({ dry }: CommandBlock): boolean => dry === null;
/** One page, for who writes it. */
const { GRAFT_TEST_PAGE } = process.env;
const pages = PAGES.filter((page) => page === (GRAFT_TEST_PAGE ?? page) && commandBlocks(page).some(isRun));

interface Typed {
  readonly line: number;
  readonly text: string;
  readonly prints: string;
}

/** @returns what failed, and what printed something else than the page shows. */
async function faultsOf(
  reader: Reader,
  page: string,
  commands: readonly Typed[],
  isLookedUp = lookedUp,
): Promise<string[]> {
  const faults: string[] = [];
  for (const { line, text, prints } of commands) {
    if (isLookedUp(text)) continue;
    try {
      // It may be so already.
      for (const [pattern, first] of FIRST) if (pattern.test(text)) await reader.run(`(${first}) || true`);
      const made = / (?:-o|--out) (\S+)/.exec(text)?.[1];
      if (made !== undefined) rmSync(path.join(reader.folder, made), { recursive: true, force: true });
      const printed = await reader.run(text);
      if (prints !== '' && formOf(printed) !== formOf(prints))
        faults.push(`${page}:${line}: ${text}\nprints\n${printed}\nand not\n${prints}`);
    } catch (error) {
      faults.push(`${page}:${line}: ${String(error)}`);
    }
  }
  return faults;
}

// Two at once: a fifth less time on two cores, where stacks start.
describe.concurrent.each(pages)('%s', (page) => {
  const blocks = commandBlocks(page).filter(isRun);
  const typed = (some: readonly CommandBlock[]): Typed[] =>
    some.flatMap(({ line, commands }) => commands.map((one) => ({ line, ...one })));
  const shared = typed(blocks.filter(({ ownStack }) => !ownStack));

  // A stack is not started for nothing.
  it.skipIf(shared.every(({ text }) => lookedUp(text)))(
    'has commands that do what the page says',
    async (context) => {
      const reader = newReader(!ELSEWHERE.includes(page), context);
      await reader.start();
      await BEFORE[page]?.(reader);
      const last = shared.filter(({ text }) => DESTRUCTIVE.test(text));
      expect(await faultsOf(reader, page, [...shared.filter((one) => !last.includes(one)), ...last])).toEqual(
        [],
      );
    },
  );

  it.for(blocks.filter(({ ownStack }) => ownStack))(
    'has servers that start as line $line says',
    async (block, context) => {
      const reader = newReader(true, context);
      const [edge, origin] = [await freePort(), await freePort()];
      reader.names.set(':8787', `:${edge}`).set(':8788', `:${origin}`);
      const ports = (text: string): string =>
        text
          .replace(/^(graft origin [^#]*?)( +#.*)?$/, `$1 -- --port ${origin}`)
          .replace(/^(graft edge [^#]*?)( +#.*)?$/, `$1 --port ${edge}`);
      expect(
        await faultsOf(
          reader,
          page,
          typed([block]).map((one) => ({ ...one, text: ports(one.text) })),
          () => false,
        ),
      ).toEqual([]);
    },
  );
});
