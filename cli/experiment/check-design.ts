import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { contradictedGuardrail, CreateExperiment, Experiment } from '../../protocol/index.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { usageError } from '../flags.ts';

/** @returns the JSON object in `file`. @throws CliError when it cannot be read or holds none. */
export async function readDesignFile(file: string): Promise<Record<string, unknown>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CliError({
      message: `${file} cannot be read (${error.code ?? error.message}).`,
      exitCode: EXIT.usage,
      code: 'file_unreadable',
    });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new CliError({
    message: `${file} does not hold a JSON object; \`graft experiment show <name>\` prints one.`,
    exitCode: EXIT.usage,
    code: 'file_invalid',
  });
}

/** What the server writes by itself; in a document that `graft experiment show` printed, and none of a new one's. */
const SERVERS_OWN = ['version', 'status', 'winner', 'dropped'];

/** In the place of what the server chooses, so that the rest can be checked beforehand. */
const STAND_IN = { seed: 'stand-in', unit: 'user', coverage: 1, version: 1, status: 'draft' };

/**
 * @param design what is to be sent; a whole document will do. @returns the request.
 * @throws CliError (usage) for what the server would refuse, as far as it can be told from here.
 */
export function checkDesign(design: Record<string, unknown>): CreateExperiment {
  const request = Object.fromEntries(
    Object.entries(design).filter(([field]) => !SERVERS_OWN.includes(field)),
  );
  refuse(CreateExperiment.safeParse(request));
  const { why: _, ...document } = request;
  // Without metrics the server's own are meant, and what names them is its to check.
  if (document['metrics'] !== undefined) checkDocument({ ...STAND_IN, ...document });
  return request as CreateExperiment;
}

/** A document as it is to be. @throws CliError (usage) */
export function checkDocument(document: Record<string, unknown>): Experiment {
  const parsed = Experiment.safeParse(document);
  refuse(parsed);
  const experiment = parsed.data as Experiment;
  const contradicted = contradictedGuardrail(experiment);
  if (contradicted !== null) throw usageError(`'guardrails.${contradicted.index}': ${contradicted.message}.`);
  return experiment;
}

function refuse({ error }: z.ZodSafeParseResult<unknown>): void {
  const issue = error?.issues[0];
  if (issue === undefined) return;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const where = [...issue.path, ...unknown].join('.');
  throw usageError(`${where === '' ? 'the experiment' : `'${where}'`}: ${issue.message}.`);
}
