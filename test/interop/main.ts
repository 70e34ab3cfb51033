/** `npm run interop`: adapters of other tools through graft and into other tools; README.md says what is compared. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { runBases } from './bases/main.ts';
import { runClients } from './clients/main.ts';
import { exchangeAll, type Exchanged } from './exchange.ts';
import { runHosts } from './hosts/hosts.ts';
import { startLlamaServer } from './llama-server.ts';
import { startOwnEngine } from './own-engine.ts';
import { findPeers, type Peers } from './peers.ts';
import { runSchemas } from './schemas.ts';
import { runSnippets } from './snippets/main.ts';
import { runShapes } from './shapes/main.ts';
import { runVllm } from './vllm.ts';
import { runTemplates } from './templates/main.ts';
import { runTokenizers } from './tokenizers/main.ts';

/** Greedy tokens of one answer. */
const TOKENS = 64;
/** Largest difference of a logit in float64 that is still the same adapter. */
const MAX_DIFFERENCE = 1e-4;
/** Why there is no such limit in float32. */
const FLOAT32_NOISE =
  'f32 is not checked: both of its sides are in float32, whose noise is "f32 alone", the truth against itself in float64 with no adapter file read.';
/** SmolLM2-135M's. */
const ATTENTION = { heads: 9, kvHeads: 3 };

interface TokenCheck {
  tokens: number;
  right: number;
  ties: number;
  wrong: { prompt: number; token: number; logits_behind: number } | null;
}
/** A line of reference.py. */
interface Reference {
  adapter: string;
  format: string;
  effect: number;
  f32: number;
  f64: number;
  source_f32?: number;
  source_f64?: number;
  noise: number;
  llama?: TokenCheck;
  graft?: TokenCheck;
}

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const skip = (what: string, why: string): void => console.log(`skipped: ${what}, for want of ${why}`);

/** @returns its standard output. */
function runPython(python: string, args: readonly string[]): Promise<string> {
  const child = spawn(python, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let [output, errors] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
  return new Promise((resolve, reject) =>
    child.once('close', (code) =>
      code === 0
        ? resolve(output)
        : reject(new Error(`${args[0]} ended with ${code}:\n${output}\n${errors}`)),
    ),
  );
}

/** Each engine's greedy answers to the prompts, written as `tokens.json` beside every adapter. */
async function collectTokens(peers: Peers, folder: string, adapters: readonly Exchanged[]): Promise<void> {
  const prompts = JSON.parse(await readFile(path.join(folder, 'prompts.json'), 'utf8')) as number[][];
  const readable = adapters.flatMap(({ packed, ...rest }) => (packed === null ? [] : [{ ...rest, packed }]));
  const tokens = new Map<string, Record<string, number[][]>>(readable.map(({ name }) => [name, {}]));
  if (peers.llamaServer === null || peers.llamaSource === null) skip('llama.cpp', 'its server or its source');
  else {
    const base = path.join(path.dirname(folder), 'base-f32.gguf');
    if (!existsSync(base)) {
      const converter = path.join(peers.llamaSource, 'convert_hf_to_gguf.py');
      await runPython(peers.python!, [converter, peers.base!, '--outtype', 'f32', '--outfile', base]);
    }
    console.log(
      `llama.cpp ${spawnSync(peers.llamaServer, ['--version'], { encoding: 'utf8' }).stderr.trim()}`,
    );
    const server = await startLlamaServer({
      executable: peers.llamaServer,
      base,
      adapters: readable.map(({ ggufPath }) => ggufPath),
      threads: availableParallelism(),
    });
    for (const [adapter, { name }] of readable.entries()) {
      const answers: number[][] = [];
      for (const prompt of prompts) answers.push(await server.answer({ prompt, adapter, tokens: TOKENS }));
      tokens.get(name)!.llama = answers;
    }
    await server.stop();
  }
  const engine = await startOwnEngine({
    base: peers.base!,
    cacheDir: path.join(peers.folder, 'interop/cache'),
  });
  for (const { name, packed } of readable)
    tokens.get(name)!.graft = await engine.answer({ ...packed, prompts, tokens: TOKENS });
  await engine.close();
  for (const [name, answers] of tokens)
    await writeFile(path.join(folder, name, 'tokens.json'), JSON.stringify(answers));
}

const shown = (value: number | undefined): string => (value === undefined ? '' : value.toExponential(1));
const counts = (check: TokenCheck | undefined): string =>
  check === undefined ? '' : `${check.right}+${check.ties} of ${check.tokens}`;

function formatTable(rows: readonly Reference[]): string {
  const table = new Table({
    head: [
      'adapter',
      'read as',
      'effect',
      'f32 alone',
      'PEFT f32',
      'f64',
      'source in PEFT',
      'f64',
      'llama.cpp',
      'graft f32',
    ],
    style: { head: [], border: [] },
  });
  for (const row of rows)
    table.push([
      row.adapter,
      row.format,
      row.effect.toFixed(1),
      ...[row.noise, row.f32, row.f64, row.source_f32, row.source_f64].map(shown),
      counts(row.llama),
      counts(row.graft),
    ]);
  return table.toString();
}

function problemsOf(row: Reference): string[] {
  const problems: string[] = [];
  if (!(row.f64 <= MAX_DIFFERENCE))
    problems.push(`${row.adapter}: PEFT's logits in float64 are ${row.f64} from the truth`);
  for (const engine of ['llama', 'graft'] as const)
    if (row[engine]?.wrong)
      problems.push(`${row.adapter}: ${engine} says something else: ${JSON.stringify(row[engine].wrong)}`);
  return problems;
}

async function main(): Promise<void> {
  const [command, ...names] = process.argv.slice(2);
  if (command === 'clients') {
    process.exitCode = (await runClients(names)) ? 0 : 1;
    return;
  }
  if (command === 'snippets') {
    process.exitCode = (await runSnippets()) ? 0 : 1;
    return;
  }
  if (command === 'vllm') {
    process.exitCode = await runVllm(names);
    return;
  }
  if (command === 'schemas') {
    process.exitCode = await runSchemas();
    return;
  }
  if (command === 'bases') {
    process.exitCode = await runBases(names);
    return;
  }
  if (command === 'shapes') {
    process.exitCode = await runShapes(names);
    return;
  }
  if (command === 'tokenizers') {
    process.exitCode = runTokenizers(names);
    return;
  }
  if (command === 'hosts') {
    process.exitCode = await runHosts(names);
    return;
  }
  if (command === 'templates') {
    process.exitCode = runTemplates(names);
    return;
  }
  const peers = findPeers(process.env);
  const { python, base } = peers;
  if (python === null) return skip('everything', `Python at ${peers.folder}/py (test/interop/README.md)`);
  if (base === null) return skip('everything', `the base at ${peers.folder}/hf (test/interop/README.md)`);
  const folder = path.join(peers.folder, 'interop/adapters');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const llama = peers.llamaSource === null ? [] : [peers.llamaSource];
  console.log((await runPython(python, [script('make_adapters.py'), base, folder, ...llama])).trim());
  const adapters = await exchangeAll(folder, ATTENTION, process.argv.slice(2));
  await collectTokens(peers, folder, adapters);
  const lines = (await runPython(python, [script('reference.py'), base, folder])).trim().split('\n');
  console.log(lines[0]);
  const rows = lines.slice(1).map((line) => JSON.parse(line) as Reference);
  console.log(formatTable(rows));
  console.log(FLOAT32_NOISE);
  const refused = adapters.flatMap(({ name, refusal }) => (refusal === null ? [] : [`${name}: ${refusal}`]));
  for (const line of refused) console.log(`refused: ${line}`);
  const problems = rows.flatMap(problemsOf);
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length + refused.length > 0 ? 1 : 0;
}

await main();
