import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseEnv } from 'node:util';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { command } from '../command.ts';
import { parsePort, usageError } from '../flags.ts';
import { cacheFolder, findBase, usableCacheFolder } from '../local/find-base.ts';
import { nativeRuntime, runsNatively } from '../local/native-runtime.ts';
import { endsWithUs, originEnvironment, originProgram } from '../local/origin-process.ts';
import { ENDING_SIGNALS } from '../local/keep-process-ours.ts';

/** Environment variables of an origin; it gets no other GRAFT_* variables. */
const ORIGIN_VARIABLES = ['GRAFT_ORIGIN_KEYS', 'GRAFT_METRICS_TOKEN', 'GRAFT_ENGINE_KEY'];

export const originCommand = command({
  verb: 'origin',
  examples: [
    {
      line: 'graft origin --origin-id origin-1 --keys origin.env --base ./model.gguf',
      does: 'an origin of a deployment, on 127.0.0.1:8788',
    },
    {
      line: 'graft origin --origin-id origin-1 --keys origin.env -- --slots 8 --context 2048',
      does: 'the default base, with more flags for the origin',
    },
  ],
  args: {
    base: {
      type: 'string',
      description: 'A .gguf file, a Hugging Face folder or hf:<owner>/<name>; default: the default base',
      valueHint: 'base',
    },
    'origin-id': { type: 'string', description: 'Its id in the edge’s ORIGINS', valueHint: 'id' },
    host: { type: 'string', description: 'Address to listen on', default: '127.0.0.1', valueHint: 'host' },
    port: { type: 'string', description: 'Port to listen on', default: '8788', valueHint: 'port' },
    provider: { type: 'string', description: 'As for `graft dev`', valueHint: 'name' },
    train: { type: 'boolean', description: 'Train adapters for fine-tuning jobs too', default: false },
    // Not --env-file: Node would take that for its own, wherever it is.
    keys: {
      type: 'string',
      description: 'File with GRAFT_ORIGIN_KEYS=…; default: the environment',
      valueHint: 'file',
    },
  },
  async run({ args, rawArgs, output }) {
    const program = originProgram('main');
    const end = rawArgs.indexOf('--');
    const further = end === -1 ? [] : rawArgs.slice(end + 1);
    const asksForHelp = further.includes('--help');
    const cache = asksForHelp ? cacheFolder(process.env) : await usableCacheFolder(process.env);
    const given = args.keys === undefined ? {} : await readEnvFile(args.keys);
    const variables = Object.fromEntries(
      ORIGIN_VARIABLES.flatMap((name) => {
        const value = given[name] ?? process.env[name];
        return value === undefined ? [] : [[name, value]];
      }),
    );
    const port = parsePort(args.port, '--port');
    const flags = ['--host', args.host, '--port', String(port), '--cache', cache];
    for (const name of ['origin-id', 'provider'] as const)
      if (args[name] !== undefined) flags.push(`--${name}`, args[name]);
    if (args.train) flags.push('--train');
    const runtime = await interruptible(async (signal) => {
      if (!asksForHelp)
        flags.push('--base', await findBase({ base: args.base, cache, env: process.env, output, signal }));
      const wanted = !asksForHelp && runsNatively([...flags, ...further]);
      return nativeRuntime({ cache, wanted, output, signal });
    });
    const child = spawn(process.execPath, [...endsWithUs(), ...program, ...flags, ...further], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      env: { ...originEnvironment(process.env), ...variables, ...runtime },
      // Signals reach it only through us: a second one would end it at once, with its streams.
      detached: true,
    });
    // It decides when it ends.
    const pass = (signal: NodeJS.Signals) => void child.kill(signal);
    for (const signal of ENDING_SIGNALS) process.on(signal, pass);
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', resolve);
    });
    if (code !== 0)
      throw new CliError({
        message: `The origin ended with ${code === null ? 'a signal' : `code ${code}`}.`,
        exitCode: EXIT.error,
        code: 'origin_failed',
      });
  },
});

/** @throws CliError (usage) */
async function readEnvFile(file: string): Promise<Record<string, string | undefined>> {
  try {
    return parseEnv(await readFile(path.resolve(file), 'utf8'));
  } catch (error) {
    throw usageError(`--keys ${file}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
