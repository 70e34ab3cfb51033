import {
  err,
  Experiment,
  ok,
  type ApiError,
  type CreateExperiment,
  type ExperimentMetric,
  type Result,
} from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import type { z } from 'zod';
import { ownName } from '../../registry/own-name.ts';
import type { ExperimentLedger, ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { checkJudge } from '../pairs/check-judge.ts';
import { checkAdapters } from './check-adapters.ts';
import type { LifeDeps } from './life-deps.ts';

/** What is measured unless something else is asked for: whether people like the answers. */
const THUMBS: ExperimentMetric = { key: 'thumbs', kind: 'proportion', better: 'up' };
/** Characters of an id after `exp_`: 16 of 36 are 83 bits. */
const ID_CHARACTERS = 16;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** Bytes from here on would make the first letters likelier. */
const EVEN_BYTES = Math.floor(256 / ALPHABET.length) * ALPHABET.length;
const LEDGER_PAGE = 100;

/** Makes a draft. Nothing changes for anybody until it is started. */
export async function createExperiment(
  deps: LifeDeps,
  params: { request: z.output<typeof CreateExperiment>; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const { caller } = params;
  const { why, ...asked } = params.request;
  const own = await ownName(deps, { name: asked.name, caller });
  if (!own.ok) return own;
  const { alias, owner } = own.value;
  if (alias !== null)
    return err(conflict(`'${asked.name}' stands for '${alias}'. Make the experiment for that name.`, 'name'));
  const other = await deps.experimentLedger.ofName(asked.name);
  if (other !== null) return err(taken(asked.name, other));
  const document = parseDocument({
    unit: 'user',
    coverage: 1,
    metrics: [THUMBS],
    ...asked,
    seed: asked.seed ?? (await freshSeed(deps.experimentLedger, asked.name)),
    version: 1,
    status: 'draft',
    winner: null,
  });
  if (!document.ok) return document;
  const checked = await checkAdapters(deps, { document: document.value, caller, owner });
  if (!checked.ok) return checked;
  const callable = checkJudge(document.value, deps.loopbackCallbacks);
  if (!callable.ok) return callable;
  const at = deps.now();
  const row: ExperimentRow = {
    id: newId(),
    owner,
    document: document.value,
    seeds: [document.value.seed],
    createdAt: at,
    createdBy: caller.keyId,
    startedAt: null,
    coverageAt: null,
    evaluation: null,
  };
  const note = { actor: caller.keyId, at, action: 'experiment_create', why: why ?? null } as const;
  const created = await deps.experimentLedger.create({ row, note });
  if (created.ok) return ok(row);
  const winner = await deps.experimentLedger.ofName(asked.name);
  return err(
    winner === null
      ? conflict('An adapter that the experiment names has just been retired. Name another one.', 'variants')
      : taken(asked.name, winner),
  );
}

const taken = (name: string, { id, document: { status } }: ExperimentRow): ApiError =>
  conflict(
    `'${name}' has experiment '${id}', which is ${status}. ` +
      `${status === 'running' || status === 'ramping' ? 'Stop it and put it away' : 'Put it away'} (archive) before the next one is made.`,
    'name',
  );

/** @returns `invalid_request` that names the first field at fault. */
export function parseDocument(value: unknown): Result<Experiment, ApiError> {
  const parsed = Experiment.safeParse(value);
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const param = (issue?.path ?? []).map(String).join('.');
  return err({
    code: 'invalid_request',
    message: `Invalid value for '${param}': ${issue?.message}.`,
    param: param === '' ? null : param,
  });
}

/** `<name with / as ->-<number>`: the least number that no experiment of the name has had. */
async function freshSeed(ledger: ExperimentLedger, name: string): Promise<string> {
  const used = new Set<string>();
  for (let cursor: string | null = null; ;) {
    const page = await ledger.list({ owner: null, name, cursor, limit: LEDGER_PAGE });
    for (const row of page.items) for (const seed of row.seeds) used.add(seed);
    if (page.cursor === null) break;
    cursor = page.cursor;
  }
  // A seed may be as long as a name; the number needs room.
  const stem = name.replaceAll('/', '-').slice(0, 240);
  let number = 1;
  while (used.has(`${stem}-${number}`)) number += 1;
  return `${stem}-${number}`;
}

function newId(): string {
  let id = 'exp_';
  while (id.length < 4 + ID_CHARACTERS)
    for (const byte of crypto.getRandomValues(new Uint8Array(ID_CHARACTERS)))
      if (byte < EVEN_BYTES && id.length < 4 + ID_CHARACTERS) id += ALPHABET[byte % ALPHABET.length];
  return id;
}
