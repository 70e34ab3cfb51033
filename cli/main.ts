/** `graft`: finds the command, runs it, and alone decides how the process ends. */
import { stripVTControlCharacters } from 'node:util';
import { defineCommand, renderUsage, runCommand, type ArgsDef, type SubCommandsDef } from 'citty';
import packageJson from '../package.json' with { type: 'json' };
import { CliError, EXIT, type ExitCode } from './cli-error.ts';
import { refuseUnknownFlags, usageError } from './flags.ts';
import { colors } from './output.ts';

/** Time for pipes to drain once a command is done. */
const LINGER_MS = 1_000;

/** In the order of `graft --help`. */
const COMMANDS: SubCommandsDef = {
  dev: () => import('./commands/dev.ts').then((module) => module.default),
  pull: () => import('./commands/pull.ts').then((module) => module.default),
  publish: () => import('./commands/publish.ts').then((module) => module.default),
  ls: () => import('./commands/ls.ts').then((module) => module.default),
  ps: () => import('./commands/ps.ts').then((module) => module.default),
  run: () => import('./commands/run.ts').then((module) => module.default),
};

const root = defineCommand({
  meta: { name: 'graft', version: packageJson.version, description: packageJson.description },
  subCommands: COMMANDS,
});

/** citty colours what it renders, whoever reads it. */
const plain = (text: string): string => (colors.isSupported() ? text : stripVTControlCharacters(text));

async function run(argv: readonly string[]): Promise<ExitCode> {
  const [verb, ...rest] = argv;
  if (verb === undefined || verb === 'help' || verb === '--help' || verb === '-h') {
    console.log(plain(await renderUsage(root)));
    return verb === undefined ? EXIT.usage : EXIT.ok;
  }
  if (verb === '--version' || verb === '-v') {
    console.log(packageJson.version);
    return EXIT.ok;
  }
  const load = Object.hasOwn(COMMANDS, verb) ? COMMANDS[verb] : undefined;
  if (load === undefined) throw usageError(`Unknown command '${verb}'.`);
  const command = await (typeof load === 'function' ? load() : load);
  if (rest.includes('--help') || rest.includes('-h')) {
    console.log(plain(await renderUsage(command, root)));
    return EXIT.ok;
  }
  refuseUnknownFlags(rest, (command.args ?? {}) as ArgsDef);
  await runCommand(command, { rawArgs: [...rest] });
  return EXIT.ok;
}

function report(error: unknown, json: boolean): ExitCode {
  const failure = asCliError(error);
  if (failure === null) {
    console.error(error);
    console.error('This is a bug in graft: please report it with the lines above.');
    return EXIT.error;
  }
  if (failure.exitCode === EXIT.interrupted) return failure.exitCode;
  if (json) console.error(JSON.stringify({ error: { code: failure.code, message: failure.message } }));
  else console.error(`${colors.red('error:')} ${failure.message}`);
  return failure.exitCode;
}

function asCliError(error: unknown): CliError | null {
  if (error instanceof CliError) return error;
  // citty's own complaints about missing arguments.
  if (error instanceof Error && error.name === 'CLIError') return usageError(`${plain(error.message)}.`);
  return null;
}

let exitCode: ExitCode;
try {
  exitCode = await run(process.argv.slice(2));
} catch (error) {
  exitCode = report(error, process.argv.includes('--json'));
}
// Set first: what was written to a pipe is flushed. A library's forgotten handle must not keep us here, though.
process.exitCode = exitCode;
setTimeout(() => process.exit(), LINGER_MS).unref();
