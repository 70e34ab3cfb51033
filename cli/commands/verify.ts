import { stat } from 'node:fs/promises';
import type { VerifyVersionAnswer } from '../../protocol/admin-api/versions.ts';
import { nameProblem } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import { createApiClient, type ApiClient, callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { command } from '../command.ts';
import { needKey, needUrl, readConnection, type Connection } from '../connection.ts';
import { usageError } from '../flags.ts';
import { fileSize, plainTable, type Output } from '../output.ts';
import {
  AdapterFormatError,
  checkValues,
  encodeCanonical,
  parseCanonical,
  readAdapter,
  validateAdapter,
  type ReadAdapter,
} from '../../adapters/index.ts';
import { adapterBaseId } from '../adapter-files/adapter-base.ts';
import { type AdapterInput, asRefusal, readInput } from '../adapter-files/read-input.ts';
import { lookUpBases } from '../admin/admin-client.ts';
import { attentionOf, namedBase } from '../publish/pack-input.ts';

export const verifyCommand = command({
  verb: 'verify',
  examples: [
    { line: 'graft verify alice/notes', does: 'every origin compares the live version with its proof' },
    { line: 'graft verify alice/notes@2', does: 'the same for version 2' },
  ],
  args: {
    what: {
      type: 'positional',
      description: 'Name, such as alice/notes or alice/notes@2; or a folder or file',
      valueHint: 'path',
      required: true,
    },
  },
  async run({ args, output }) {
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const isPath = await stat(args.what).then(
      () => true,
      () => false,
    );
    if (isPath) await checkHere(args.what, connection, output);
    else await askOrigins(args.what, connection, output);
  },
});

async function checkHere(given: string, { url, adminKey }: Connection, output: Output): Promise<void> {
  const client = url === undefined || adminKey === undefined ? null : createApiClient({ url, key: adminKey });
  const result = await verifyFile({ given, client, output });
  output.result(result, () => {
    const size = `${result.format}, rank ${result.rank}, ${result.modules} modules, ${fileSize(result.bytes)}`;
    const base =
      result.base === null
        ? `not checked against a base: ${result.unchecked_because}`
        : `it fits ${result.base}`;
    const verdict = result.ok ? `OK  ${given} (${size})\n    ${base}` : `${given} (${size}) has problems:`;
    return [verdict, ...result.problems.map(({ code, message }) => `  ${message} (${code})`)].join('\n');
  });
  if (!result.ok)
    throw new CliError({
      message: `${given} would be refused.`,
      exitCode: EXIT.refused,
      code: 'adapter_invalid',
    });
}

/** @throws CliError (usage) when it is neither a name nor a file. */
export function parseVersioned(what: string): { name: string; version?: number } {
  const match = /^(.*)@([1-9][0-9]{0,8})$/.exec(what);
  const name = match?.[1] ?? what;
  const problem = nameProblem(name);
  if (problem !== null) throw usageError(`'${what}' is neither a local file nor a name: ${problem}.`);
  return match === null ? { name } : { name, version: Number(match[2]) };
}

async function askOrigins(what: string, connection: Connection, output: Output): Promise<void> {
  const wanted = parseVersioned(what);
  const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
  const answer = await callOperation(client, `verify ${what}`, 'POST /admin/verify', { body: wanted });
  output.result(answer, () => `${answer.name}@${answer.version}\n${originTable(answer)}`);
  const refusing = answer.origins.filter(({ ok }) => !ok).map(({ id }) => id);
  if (refusing.length > 0)
    throw new CliError({
      message: `${answer.name}@${answer.version} does not verify on ${refusing.join(', ')}.`,
      exitCode: EXIT.refused,
      code: 'not_verified',
    });
}

const originTable = ({ origins }: VerifyVersionAnswer): string =>
  plainTable(
    ['ORIGIN', 'OK', 'KL', 'REASON'],
    origins.map(({ id, ok, kl, reason }) => [
      id,
      ok ? 'yes' : 'no',
      kl === null ? '-' : nats(kl),
      reason ?? '',
    ]),
  );

const nats = (kl: number): string => (kl !== 0 && Math.abs(kl) < 1e-4 ? kl.toExponential(1) : kl.toFixed(4));

interface FileCheck {
  readonly ok: boolean;
  readonly format: ReadAdapter['format'];
  /** Of the weights file. */
  readonly bytes: number;
  /** Largest of a module. */
  readonly rank: number;
  readonly modules: number;
  /** The base that it was checked against; null without a server. */
  readonly base: string | null;
  readonly unchecked_because: string | null;
  readonly warnings: readonly string[];
  readonly problems: readonly { readonly code: string; readonly message: string }[];
}

/**
 * Reads an adapter and reports everything that is wrong with it.
 * @param params.client null without a known server.
 * @throws CliError `adapter_invalid` (refused) when it cannot be read at all.
 */
async function verifyFile(params: {
  given: string;
  client: ApiClient | null;
  output: Output;
}): Promise<FileCheck> {
  const { given, client, output } = params;
  const input = await readInput(given);
  for (const note of input.notes) output.note(note);
  const { base, because } = await baseOf(client, input);
  const read = readRefusing(input, base);
  for (const warning of read.warnings) output.note(`warning: ${warning}`);
  const problems = base === null ? checkValues(read) : checkAgainst(read, base);
  return {
    ok: problems.length === 0,
    format: read.format,
    bytes: input.bytes,
    rank: Math.max(...read.modules.map(({ rank }) => rank)),
    modules: read.modules.length,
    base: base?.id ?? null,
    unchecked_because: because,
    warnings: read.warnings,
    problems: problems.map(({ code, message }) => ({ code, message })),
  };
}

/** The base that the adapter names, if the server has it; otherwise the first one, which it will not fit. */
async function baseOf(
  client: ApiClient | null,
  input: AdapterInput,
): Promise<{ base: BaseInfo | null; because: string | null }> {
  if (client === null) return { base: null, because: 'no server is known' };
  try {
    const bases = await lookUpBases(client);
    const first = bases[0] as BaseInfo;
    const named = bases.length === 1 ? null : namedBase(input, first);
    return { base: bases.find(({ id }) => id === named) ?? first, because: null };
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.unavailable)
      return { base: null, because: error.message };
    throw error;
  }
}

function readRefusing(input: AdapterInput, base: BaseInfo | null): ReadAdapter {
  try {
    return readAdapter(input.files, { attention: base === null ? null : attentionOf(base) });
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}

/** As the server will check it: in canonical form, with the base that the adapter names. */
function checkAgainst(read: ReadAdapter, base: BaseInfo): AdapterFormatError[] {
  try {
    const named = adapterBaseId(read.baseModel) ?? base.id;
    const bytes = encodeCanonical({
      base: named,
      parent: read.parent,
      modules: read.modules,
      invocation: read.invocation,
      classifier: read.classifier,
    });
    return validateAdapter({ adapter: parseCanonical(bytes), base });
  } catch (error) {
    if (error instanceof AdapterFormatError) return [error];
    throw error;
  }
}
