/** `npm run bench -- proxies`: requests a second through graft's edge, through LiteLLM's proxy, and straight to an origin. */
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { LOOPBACK, needFreePort } from '../cli/local/ports.ts';
import { writeTinyAdapter, writeTinyBase } from '../test/fixtures/tiny-base.ts';
import { startPeer } from './compare/peer-servers.ts';
import { post } from './load/post.ts';
import { describeMachine } from './machine.ts';
import { startPublishedStack } from './published-stack.ts';
import { milliseconds } from './report.ts';
import { startStandaloneOrigin } from './standalone-origin.ts';
import { median, quantile } from './statistics.ts';

const USAGE = `npm run bench -- proxies --litellm FILE [flags]
A tiny base that answers one token in about a millisecond, an adapter of it; the same origin program behind both.
  --litellm FILE       LiteLLM's program (pip install 'litellm[proxy]')
  --clients a,b        at once, each on a connection of its own (default 1,16,64)
  --seconds N          of each turn (default 5)
  --turns N            of each system, the order reversed each time (default 4)`;

const NAME = 'bench/tiny';
const MASTER_KEY = 'sk-bench-0123456789';

interface Asked {
  url: string;
  model: string;
  key: string;
}
interface ProxyRow {
  system: string;
  clients: number;
  requestsPerSecond: number;
  ms: { p50: number; p99: number };
  problems: string[];
}

/** @throws Error that names the flag. */
export async function benchProxies(argv: readonly string[], signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      litellm: { type: 'string' },
      clients: { type: 'string', default: '1,16,64' },
      seconds: { type: 'string', default: '5' },
      turns: { type: 'string', default: '4' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(USAGE);
  const { litellm } = values;
  if (litellm === undefined || !existsSync(litellm)) throw new Error(`--litellm is needed\n${USAGE}`);
  const clients = values.clients.split(',').map(Number);
  const [seconds, turns] = [Number(values.seconds), Number(values.turns)];
  if (![...clients, seconds, turns].every((value) => value > 0))
    throw new Error('--clients, --seconds, --turns: numbers above 0');
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-proxies-'));
  const stops: (() => Promise<void>)[] = [() => rm(work, { recursive: true, force: true })];
  try {
    const [base, adapter] = [path.join(work, 'tiny-base'), path.join(work, 'adapter')];
    writeTinyBase(base);
    writeTinyAdapter(adapter, { rank: 4, alpha: 8, targets: ['q_proj', 'v_proj'], seed: 1 });
    const stack = await startPublishedStack({
      ...{ base, work: path.join(work, 'stack'), signal },
      originArgs: [],
    });
    stops.push(() => stack.stop());
    await stack.publish(NAME, adapter);
    const origin = await startStandaloneOrigin({
      ...{ base, port: 0, adapters: [{ name: NAME, folder: adapter }], extraArgs: [] },
    });
    stops.push(() => origin.process.stop());
    const { host, port } = origin.target('origin', '');
    const originUrl = `http://${host}:${port}`;
    const proxy = await startLitellm({ litellm, work, upstream: originUrl, signal });
    stops.push(proxy.stop);
    const { url, key } = stack.stack.local;
    const systems: Record<string, Asked> = {
      origin: { url: originUrl, model: NAME, key: 'none' },
      graft: { url, model: NAME, key },
      LiteLLM: { url: proxy.url, model: NAME, key: MASTER_KEY },
    };
    const rows: ProxyRow[] = [];
    for (const count of clients) rows.push(...(await inTurns(systems, { count, seconds, turns, signal })));
    const machine = await describeMachine();
    console.log(`${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, ${machine.os}`);
    const table = new Table({
      head: ['clients', 'through', 'requests/s', 'ms p50', 'p99'],
      style: { head: [], border: [] },
    });
    for (const { clients: at, system, requestsPerSecond, ms } of rows)
      table.push([at, system, requestsPerSecond.toFixed(0), milliseconds(ms.p50), milliseconds(ms.p99)]);
    console.log(table.toString());
    for (const { system, problems } of rows)
      for (const problem of problems) console.log(`PROBLEM ${system}: ${problem}`);
    console.log(JSON.stringify({ date: new Date().toISOString(), machine, proxies: rows }));
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
}

/** The median turn of each system; times of all turns together. The turn before the first does not count. */
async function inTurns(
  systems: Record<string, Asked>,
  params: { count: number; seconds: number; turns: number; signal: AbortSignal },
): Promise<ProxyRow[]> {
  const names = Object.keys(systems);
  const rates = new Map(names.map((name) => [name, [] as number[]]));
  const times = new Map(names.map((name) => [name, [] as number[]]));
  const problems = new Map(names.map((name) => [name, new Set<string>()]));
  for (let turn = -1; turn < params.turns; turn++)
    for (const name of turn % 2 === 0 ? names : [...names].reverse()) {
      const taken = await loadFor(systems[name] as Asked, params);
      for (const problem of taken.problems) problems.get(name)?.add(problem);
      if (turn < 0) continue;
      rates.get(name)?.push(taken.ms.length / taken.seconds);
      times.get(name)?.push(...taken.ms);
    }
  return names.map((system) => {
    const ms = times.get(system) ?? [];
    return {
      ...{ system, clients: params.count, problems: [...(problems.get(system) ?? [])] },
      requestsPerSecond: median(rates.get(system) ?? []),
      ms: { p50: median(ms), p99: quantile(ms, 0.99) },
    };
  });
}

/** `count` clients, each asking again as soon as it has its answer. */
async function loadFor(
  asked: Asked,
  { count, seconds, signal }: { count: number; seconds: number; signal: AbortSignal },
): Promise<{ ms: number[]; seconds: number; problems: Set<string> }> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: count });
  const problems = new Set<string>();
  const ms: number[] = [];
  const start = performance.now();
  const until = start + seconds * 1_000;
  await Promise.all(
    Array.from({ length: count }, async () => {
      while (performance.now() < until) {
        signal.throwIfAborted();
        const began = performance.now();
        const problem = await ask(agent, asked);
        if (problem === null) ms.push(performance.now() - began);
        else problems.add(problem);
      }
    }),
  );
  agent.destroy();
  return { ms, seconds: (performance.now() - start) / 1_000, problems };
}

const ask = (agent: http.Agent, { url, model, key }: Asked): Promise<string | null> => {
  const messages = [{ role: 'user', content: 'Say a word.' }];
  const body = JSON.stringify({ model, max_tokens: 1, temperature: 0, messages });
  return post(agent, `${url}/v1/chat/completions`, body, { authorization: `Bearer ${key}` });
};

/** One worker, one key, no database and no log of spending: the least that it does. */
async function startLitellm(params: {
  litellm: string;
  work: string;
  upstream: string;
  signal: AbortSignal;
}): Promise<{ url: string; stop: () => Promise<void> }> {
  const config = path.join(params.work, 'litellm.yaml');
  await writeFile(
    config,
    JSON.stringify({
      model_list: [
        {
          model_name: NAME,
          litellm_params: {
            ...{ model: `openai/${NAME}`, api_base: `${params.upstream}/v1`, api_key: 'none' },
          },
        },
      ],
      general_settings: { master_key: MASTER_KEY },
      litellm_settings: { telemetry: false },
    }),
  );
  const port = await needFreePort({ port: 0, what: 'LiteLLM', flag: 'none' });
  const { stop } = await startPeer({
    executable: params.litellm,
    args: ['--config', config, '--host', LOOPBACK, '--port', String(port), '--num_workers', '1'],
    env: { LITELLM_LOG: 'ERROR', LITELLM_LOCAL_MODEL_COST_MAP: 'True' },
    ready: '/health/liveliness',
    target: { label: 'LiteLLM', kind: 'openai', host: LOOPBACK, port, prefix: '', base: '' },
    signal: params.signal,
  });
  return { url: `http://${LOOPBACK}:${port}`, stop };
}
