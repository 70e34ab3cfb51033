/** `npm run bench -- walk`: the files that one chat completion enters, from the edge's first line to the last token. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readKeysFile } from '../cli/local/graft-folder.ts';
import { LOOPBACK, needFreePort } from '../cli/local/ports.ts';
import { TINY_ADAPTERS, writeTinyAdapter, writeTinyBase } from '../test/fixtures/tiny-base.ts';
import { streamChat, type Tenant } from './load/stream-chat.ts';
import { processesNamed } from './processes.ts';
import { startPublishedStack } from './published-stack.ts';
import { coverNode } from './walk/node-coverage.ts';
import { startNotingEdge } from './walk/noting-edge.ts';

const USAGE = `npm run bench -- walk [--json]
  The files that one streamed chat completion by an adapter's name enters, by room: those of the edge (in workerd, its
  Durable Objects too) and of the origin, over a tiny generated base. One such request goes before, so that what is
  loaded or read once is not counted. What goes on when the answer has ended (usage, traffic) is counted apart.
  --json             as one line of JSON`;

const NAME = 'bench/walk';
/** What a request leaves behind is written within 2 s. */
const AFTERWARDS_MS = 4_000;

interface Walk {
  /** Paths from the checkout's root, sorted; what edge and origin both enter stands there once. */
  entered: string[];
  /** Further ones, when the answer has ended. */
  afterwards: string[];
}

/** @throws Error that names the flag. */
export async function benchWalk(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  });
  if (values.help) return console.log(USAGE);
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-walk-'));
  try {
    const walk = await walkOnce(work, signal);
    console.log(values.json ? JSON.stringify(walk) : formatWalk(walk));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** @param work an empty folder. */
async function walkOnce(work: string, signal: AbortSignal): Promise<Walk> {
  const base = path.join(work, 'tiny-base');
  const adapter = path.join(work, 'adapter');
  writeTinyBase(base);
  writeTinyAdapter(adapter, TINY_ADAPTERS['attention']!);
  const port = await needFreePort({ port: 0, what: 'inspector', flag: '--port' });
  process.env['NODE_OPTIONS'] = `--inspect-port=${LOOPBACK}:${port}`;
  const running = await startPublishedStack({
    ...{ base, work, originArgs: [], signal },
    env: { ...process.env, GRAFT_CACHE: path.join(work, 'cache') },
  });
  const { key, originUrl } = running.stack.local;
  const stops: (() => unknown)[] = [running.stop];
  try {
    await running.publish(NAME, adapter);
    // The stack's own edge would ask the origin by its schedule.
    for (const pid of await processesNamed('workerd')) process.kill(pid, 'SIGKILL');
    const edge = await startNotingEdge(path.join(work, '.wrangler/state/v3'), {
      ORIGINS: JSON.stringify([{ id: running.signed.id, url: originUrl }]),
      ...(await secretsOf(work)),
    });
    stops.push(edge.stop);
    await ask({ url: edge.url, key }, 'a first one', signal);
    await sleep(AFTERWARDS_MS);
    const origin = await coverNode(running.stack.originPid, port);
    stops.push(origin.stop);
    const entered = async () => [...new Set([...(await edge.entered()), ...(await origin.entered())])].sort();
    await entered();
    await ask({ url: edge.url, key }, 'and the second', signal);
    const answering = await entered();
    await sleep(AFTERWARDS_MS);
    const afterwards = (await entered()).filter((file) => !answering.includes(file));
    return { entered: answering, afterwards };
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
}

/** What the edge has of the stack's keys. */
async function secretsOf(folder: string): Promise<Record<string, string>> {
  const keys = await readKeysFile(folder);
  if (keys === null) throw new Error('the stack has no keys');
  return { GRAFT_ORIGIN_KEYS: keys.originKeys, GRAFT_MAC_KEY: keys.macSecret };
}

async function ask(tenant: Tenant, content: string, signal: AbortSignal): Promise<void> {
  const body = { model: NAME, stream: true, max_tokens: 4, messages: [{ role: 'user', content }] };
  const { problem } = await streamChat(tenant, body, signal);
  if (problem !== null) throw new Error(problem);
}

const PARTS = ['worker', 'protocol', 'adapters', 'gpu-origin'];
const partOf = (file: string): string => file.slice(0, file.indexOf('/'));

/** @returns a line for each room and its files, and the totals. */
function formatWalk({ entered, afterwards }: Walk): string {
  const lines: string[] = [];
  for (const [what, files] of [
    ['until the answer has ended', entered],
    ['then', afterwards],
  ] as const) {
    const rooms = new Map<string, string[]>();
    for (const file of files) {
      const room = path.dirname(file);
      rooms.set(room, [...(rooms.get(room) ?? []), path.basename(file)]);
    }
    for (const [room, names] of rooms) lines.push(`${room} (${names.length}): ${names.join(' ')}`);
    const sums = PARTS.map((part) => `${files.filter((file) => partOf(file) === part).length} ${part}`);
    lines.push(`${files.length} files ${what}: ${sums.join(', ')}`, '');
  }
  return lines.join('\n').trimEnd();
}
