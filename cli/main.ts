/** `graft`: finds the command (command-list.ts), runs it, and alone decides how the process ends. */
import { inspect, stripVTControlCharacters } from 'node:util';
import { runCommand, type ArgsDef } from 'citty';
import packageJson from '../package.json' with { type: 'json' };
import { CliError, EXIT, INTERRUPTED, type ExitCode } from './cli-error.ts';
import { COMMAND_GROUPS, commandNames, findCommand } from './command-list.ts';
import { didYouMean, refuseUnknownFlags, usageError } from './flags.ts';
import { stripControlChars, stripControlCharsJson, colors, terminalWidth } from './output.ts';
import { describeAction, describeCommand, HELP_WIDTH, renderCommandHelp, renderRootHelp } from './help.ts';

/** Time for pipes to drain once a command is done. */
const LINGER_MS = 1_000;

async function run(argv: readonly string[]): Promise<ExitCode> {
  const [first, ...others] = argv;
  const asksForHelp = first === 'help' || first === '--help' || first === '-h';
  if (first === undefined || (asksForHelp && others.length === 0)) {
    const { version, description } = packageJson;
    console.log(renderRootHelp({ version, description, groups: COMMAND_GROUPS, width: helpWidth() }));
    return first === undefined ? EXIT.usage : EXIT.ok;
  }
  if (first === '--version' || first === '-v') {
    console.log(packageJson.version);
    return EXIT.ok;
  }
  const [verb = '', ...rest] = asksForHelp ? others : argv;
  const command = findCommand(verb);
  if (command === undefined)
    throw usageError(`Unknown command '${verb}'.${didYouMean(verb, commandNames(), 'graft ')}`);
  const module = await command.load();
  if (asksForHelp || asksForHelpOf(rest)) {
    console.log(
      renderCommandHelp(describeAction(describeCommand(verb, command, module), rest[0]), helpWidth()),
    );
    return EXIT.ok;
  }
  refuseUnknownFlags(rest, (module.default.args ?? {}) as ArgsDef);
  await runCommand(module.default, { rawArgs: [...rest] });
  return EXIT.ok;
}

const helpWidth = (): number => Math.min(HELP_WIDTH, terminalWidth() ?? HELP_WIDTH);

/** Arguments after `--` are not for graft. */
function asksForHelpOf(rest: readonly string[]): boolean {
  const end = rest.indexOf('--');
  const ours = end === -1 ? rest : rest.slice(0, end);
  return ours.includes('--help') || ours.includes('-h');
}

function report(error: unknown, argv: readonly string[]): ExitCode {
  const json = argv.includes('--json');
  const failure = asCliError(error);
  if (failure === null) {
    console.error(stripControlChars(inspect(error)));
    console.error('This is a bug in graft. Please report it with the lines above.');
    return EXIT.error;
  }
  if (failure.message === INTERRUPTED) return failure.exitCode;
  const next = failure.next ?? (failure.code === 'usage' ? helpFor(argv) : null);
  const { code, message } = failure;
  if (json) {
    console.error(stripControlCharsJson({ error: { code, message, ...(next === null ? {} : { next }) } }));
    return failure.exitCode;
  }
  console.error(`${colors.red('error:')} ${stripControlChars(message, { colours: true })}`);
  if (next !== null) console.error(`${colors.dim('next:')} ${stripControlChars(next)}`);
  return failure.exitCode;
}

/** @returns the command line whose help applies to `argv`. */
function helpFor([verb = '']: readonly string[]): string {
  return findCommand(verb) === undefined ? 'graft --help' : `graft ${verb} --help`;
}

/** Errors of the machine, not of graft: the command may work once they are fixed. */
const MACHINE_SAYS: Readonly<Record<string, [code: string, meaning: string]>> = {
  ENOSPC: ['disk_full', 'The disk is full'],
  EDQUOT: ['disk_full', 'Your disk quota is used up'],
  EFBIG: ['disk_full', 'The file would be larger than allowed here'],
  EROFS: ['read_only', 'The disk is read-only'],
  EACCES: ['not_permitted', 'You have no permission to do that'],
  EPERM: ['not_permitted', 'You have no permission to do that'],
  EIO: ['disk_failed', 'The disk reports an error'],
  EMFILE: ['too_many_files', 'Too many files are open (see `ulimit -n`)'],
  ENFILE: ['too_many_files', 'Too many files are open on this machine'],
};

function asCliError(error: unknown): CliError | null {
  if (error instanceof CliError) return error;
  const machine = error instanceof Error ? MACHINE_SAYS[(error as NodeJS.ErrnoException).code ?? ''] : null;
  if (machine && error instanceof Error)
    return new CliError({ message: `${machine[1]}: ${error.message}.`, code: machine[0] });
  // citty's own complaints about missing arguments, which are always coloured.
  if (error instanceof Error && error.name === 'CLIError')
    return usageError(missing(stripVTControlCharacters(error.message)));
  return null;
}

/** citty writes names in capitals: `NAME`, `ADAPTERS...`. */
const missing = (complaint: string): string => {
  const name = /^Missing required positional argument: (.*)$/.exec(complaint)?.[1];
  return name === undefined
    ? `${complaint.replace(/\.$/, '')}.`
    : `Missing argument <${name.toLowerCase()}>.`;
};

// The reader of the pipe has left (`graft run … | head`): stop without an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(EXIT.ok);
  const message = `The output cannot be written (${error.code ?? error.message}).`;
  const failure = asCliError(error) ?? new CliError({ message, code: 'output_failed' });
  process.exit(report(failure, process.argv.slice(2)));
});
// Unread notes stop no work (`graft publish … 2>&1 | head -1`).
process.stderr.on('error', () => undefined);

let exitCode: ExitCode;
const argv = process.argv.slice(2);
try {
  exitCode = await run(argv);
} catch (error) {
  exitCode = report(error, argv);
}
// Set first: writes to a pipe are flushed. A library's leaked handle must not keep the process alive, though.
process.exitCode = exitCode;
setTimeout(() => process.exit(), LINGER_MS).unref();
