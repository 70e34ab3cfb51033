import { expect, it } from 'vitest';
import { ask, chainsOf, expectUsage, makeFiles, type Outcome, randomFate, usageOf } from './clients.ts';
import { isStreamed, randomOf, randomRequest, uncached } from './requests.ts';
import { startTrafficOrigin } from './rig.ts';

const SEEDS = (process.env['SEEDS'] ?? '1').split(',').map(Number);
const MANY = Number(process.env['MANY'] ?? 60);

it.each(SEEDS)('seed %i', { timeout: 600_000 }, async (seed) => {
  const random = randomOf(seed);
  const short = {
    slots: 1 + random.below(4),
    kvTokens: random.of([340, 500, 900, 4_000]),
    adapterBytes: random.of([20_000, 60_000, 150_000]),
    diskBytes: random.of([101_000, 110_000, 400_000]),
    maxQueue: random.of([2, 6, 30]),
    prefixBytes: random.of([0, 100_000, 300_000]),
  };
  console.log(JSON.stringify(short));
  const crowd = await startTrafficOrigin(short);
  const alone = await startTrafficOrigin({ slots: 4, adapterBytes: 1e9, diskBytes: 1e9, maxQueue: 100, prefixBytes: 0 });
  const files = await makeFiles(crowd.tiny, 7);
  if (process.env['SIZES']) console.log([...files.values()].map(({ bytes }) => bytes.length));
  const chains = chainsOf(files);
  const jobs = await Promise.all(
    Array.from({ length: MANY }, async (_, at) => {
      const asked = randomRequest(random, chains);
      const fate = randomFate(random, isStreamed(asked));
      const wait = random.below(600);
      const cut = random.chance(0.4) ? random.next() : null;
      const id = `${'0'.repeat(24)}${String(at).padStart(8, '0')}`;
      const stays = { stream: false, leaves: null, slow: 0, budgetMs: null };
      const reference = async () => ask(alone, asked, files, { fate: stays, id });
      if (cut !== null && asked.path !== '/v1/embeddings') {
        // A text of the answer ends it.
        const first = await reference();
        const said = first.kind === 'whole' ? textOf(first.body) : '';
        const from = Math.floor(cut * said.length);
        const stop = said.slice(from, from + 1 + (at % 4));
        if (stop.trim() !== '') asked.request[asked.path === '/v1/messages' ? 'stop_sequences' : 'stop'] = [stop];
      }
      return { asked, fate, wait, id, reference };
    }),
  );
  const asks: string[] = [];
  let over = false;
  const digests = [...files.keys()];
  const chaos = async () => {
    while (!over && seed % 2 === 1) {
      await new Promise((resolve) => setTimeout(resolve, random.below(40)));
      const digest = random.of(digests);
      const post = async (path: string, body: object, method = 'POST') => {
        const response = await crowd.send(path, { method, body: JSON.stringify(body) });
        const text = await response.text();
        if (response.status >= 500 && !/deadline|adapter_unavail/.test(text)) faults.push(`${path} ${response.status} ${text}`);
      };
      const what = random.below(6);
      if (what === 0) await post('/adapters/drop', { digests: [digest] });
      if (what === 1) await post('/adapters/prefetch', { digests: [digest] });
      if (what === 2) await post('/adapters/pins', { digests: [digest] });
      if (what === 3) await post('/adapters/pins', { digests: random.chance(0.5) ? [] : [digest] }, 'PUT');
      if (what === 4) void post(`/adapters/${digest}/verify?tenant=tenant-1`, {}).catch(() => undefined);
      if (what === 5) void post(`/adapters/${digest}/evaluate`, { tenant: 'tenant-2', rows: [1, 2, 3, 4, 5, 6].map((n) => ({ prompt: 'a'.repeat(n * 20), expected: 'b' })) }).catch(() => undefined);
    }
  };
  const faults: string[] = [];
  const disturbing = chaos();
  const outcomes: Outcome[] = await Promise.all(
    jobs.map(async ({ asked, fate, wait, id }) => {
      await new Promise((resolve) => setTimeout(resolve, wait));
      return ask(crowd, asked, files, { fate, id, asks });
    }),
  );
  over = true;
  await disturbing;
  await crowd.send('/adapters/pins', { method: 'PUT', body: JSON.stringify({ digests: [] }) });
  const counts = new Map<string, number>();
  for (const outcome of outcomes) {
    const key = outcome.kind === 'failed' ? `failed ${outcome.code}` : outcome.kind;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  console.log(JSON.stringify([...counts]), JSON.stringify(crowd.engine.residents().used_bytes));
  const problems: string[] = [];
  for (const [at, outcome] of outcomes.entries()) {
    const { asked, fate, reference } = jobs[at]!;
    const where = `${at} ${JSON.stringify(fate)} ${JSON.stringify(asked)}`;
    try {
      expectUsage(asked, outcome);
    } catch (error) {
      problems.push(`usage of ${where}: ${(error as Error).message}`);
    }
    if (outcome.kind === 'failed') {
      if (seed % 2 === 1 && /adapter_missing/.test(outcome.code + outcome.error)) continue;
      if (fate.budgetMs !== null && /deadline_exceeded|ran out/.test(outcome.code + outcome.error)) continue;
      const right = await reference();
      if (right.kind === 'failed' && right.code === outcome.code.replace('stream:', '')) continue;
      problems.push(`failed ${where}: ${outcome.code} ${outcome.error}`);
      continue;
    }
    if (outcome.kind !== 'whole') continue;
    const right = await reference();
    try {
      if (right.kind !== 'whole') throw new Error(`alone it is ${JSON.stringify(right)}`);
      if (JSON.stringify(sorted(uncached(outcome.body))) !== JSON.stringify(sorted(uncached(right.body)))) throw new Error(`\n  ${JSON.stringify(outcome.body)}\n  ${JSON.stringify(right.body)}`);
    } catch (error) {
      problems.push(`answer of ${where}: ${(error as Error).message}`);
    }
  }
  for (let turn = 0; turn < 100 && crowd.leftOver().length > 0; turn += 1)
    await new Promise((resolve) => setTimeout(resolve, 20));
  if (seed % 2 === 0) {
    let told = 0;
    for (const one of asks) told += (await usageOf(crowd, one)).completion_tokens;
    const ran = crowd.finished.reduce((sum, one) => sum + one.completionTokens, 0);
    if (told !== ran) problems.push(`tokens: told ${told}, ran ${ran}`);
  }
  problems.push(...faults);
  problems.push(...crowd.leftOver().map((left) => `left: ${left}`));
  problems.push(...crowd.faults.map((fault) => `fault: ${fault}`));
  const strange = crowd.files().filter((name) => !/^[0-9a-f]{64}$/.test(name) && name !== 'incoming');
  problems.push(...strange.map((name) => `file: ${name}`));
  await crowd.store.put('f'.repeat(64), new Uint8Array(1));
  if (crowd.store.disk().usedBytes > short.diskBytes) problems.push(`disk: ${crowd.store.disk().usedBytes}`);
  if (crowd.engine.residents().used_bytes > short.adapterBytes) problems.push(`memory: ${crowd.engine.residents().used_bytes}`);
  await crowd.stop();
  await alone.stop();
  const { appendFileSync } = await import('node:fs');
  for (const problem of problems) appendFileSync('/tmp/h/r3c/problems.txt', `seed ${seed} ${problem}\n`);
  expect(problems.length).toBe(0);
});

const sorted = (v: unknown): unknown => Array.isArray(v) ? v.map(sorted) : v !== null && typeof v === 'object' ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, x]) => [k, sorted(x)])) : v;

function textOf(body: unknown): string {
  const { choices, output, content } = body as {
    choices?: { text?: string; message?: { content: string | null; tool_calls?: { function: { arguments: string } }[] } }[];
    output?: { content?: { text: string }[]; arguments?: string }[];
    content?: { text?: string; input?: unknown }[];
  };
  const [choice] = choices ?? [];
  if (choice !== undefined) return choice.text ?? (choice.message?.content || choice.message?.tool_calls?.[0]?.function.arguments) ?? '';
  if (output !== undefined) return output[0]?.content?.[0]?.text ?? output[0]?.arguments ?? '';
  return content?.[0]?.text ?? JSON.stringify(content?.[0]?.input ?? '');
}
