/** From rows to a staged version, or to a folder. What can fail at the end is checked before the training begins. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { VersionView } from '../../protocol/admin-api/versions.ts';
import { type ChainEntry, chainId, pinOf } from '../../protocol/identity.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import {
  isTrained,
  MAX_CONTINUED_RANK,
  TRAINING_FILE,
  TrainingCard,
  type TrainingRequest,
} from '../../protocol/training.ts';
import { writeOutput } from '../adapter-files/write-output.ts';
import { lookUpBases, lookUpVersions } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { fetchVersion } from '../download/fetch-version.ts';
import { bytesSha256, fileSha256, findBase, usableCacheFolder } from '../local/find-base.ts';
import { type BaseIdentity, identifyBase } from '../local/identify-base.ts';
import { nativeRuntime, runsNatively } from '../local/native-runtime.ts';
import { parseRepositoryBase } from '../local/repository.ts';
import type { Output } from '../output.ts';
import { liveVersion, PARENT_CHANGED, publishAdapter, type Published } from '../publish/publish-adapter.ts';
import { runTraining, trainingError } from './run-program.ts';
import { trainingProgress } from './show-training.ts';
import { openWorkFolder } from './work-folder.ts';

export type TrainedWeights = 'int8' | 'f32';

export interface TrainWish {
  /** File. */
  readonly rows: string;
  /** File of rows to hold out; null = a share of the others. */
  readonly validation: string | null;
  /** Of the version to publish; null = `out` alone. */
  readonly name: string | null;
  /** Folder to write instead of publishing; null = publish. */
  readonly out: string | null;
  /** Name whose live version it is trained on; null = the base, or what the version that is continued lies on. */
  readonly parent: string | null;
  /** `continues`: on the live version of `name`, as its next one. */
  readonly request: TrainingRequest;
  /** The value of `--base`; undefined = the default base. */
  readonly base: string | undefined;
  /** null = int8 if the server's are rounded too, or without a server; otherwise f32. */
  readonly weights: TrainedWeights | null;
  readonly provider: string;
  /** null = all cores. */
  readonly threads: number | null;
  /** From the checkpoint, or without it; `either`: from it if there is one. */
  readonly start: 'new' | 'resume' | 'restart' | 'either';
  /** For the card, of rows that were made from prompts. */
  readonly prompts?: TrainingCard['prompts'];
  /** See `PublishWish`. */
  readonly madeFromPrompts?: boolean;
  /** For the history. */
  readonly why: string | null;
}

export interface Trained {
  readonly card: TrainingCard;
  /** null with `out`. */
  readonly published: Published | null;
  /** The version that was continued; null = none. */
  readonly continued: VersionView | null;
}

export interface TrainParams {
  readonly wish: TrainWish;
  /** null = neither a name to publish nor a parent. */
  readonly client: ApiClient | null;
  readonly output: Output;
  readonly signal: AbortSignal;
  /** Arguments for Node. */
  readonly program: readonly string[];
  readonly env: Record<string, string | undefined>;
  /** The same command with a flag, for messages. */
  readonly again: (flag: '' | '--resume' | '--restart') => string;
}

/** @throws CliError; `interrupted` after Ctrl-C, with the command that continues. */
export async function trainAdapter(params: TrainParams): Promise<Trained> {
  const { wish, client, output, signal, program, env, again } = params;
  const rowsSha256 = await rowsDigest(wish.rows);
  const validationSha256 = wish.validation === null ? null : await rowsDigest(wish.validation);
  const server = client === null ? null : await lookAtServer(client, wish);
  const { parent = null, continued = null } = server ?? {};
  const cache = await usableCacheFolder(env);
  const base = await findBase({ base: wish.base, cache, env, output, signal });
  const repository = wish.base === undefined ? null : parseRepositoryBase(wish.base)?.repository;
  const identity = await identifyBase({ base, repository: repository ?? null, output, signal });
  const served = server === null ? null : checkBase(identity, server);
  if (client !== null && served !== null && wish.name !== null && wish.out === null)
    await checkRights({ client, wish, served, parent, continued, output });
  const chain = await fetchChain(client, continued ?? parent, output);
  // A delta that was trained on rounded weights fits the same rounding best.
  const isRounded = served === null || served.weights.startsWith('int');
  const weights = wish.weights ?? (isRounded ? 'int8' : 'f32');
  const runtime = await nativeRuntime({
    ...{ cache, output, signal, wanted: runsNatively(['--provider', wish.provider]) },
  });
  const work = await openWorkFolder({
    cache,
    key: {
      name: wish.name,
      out: wish.out === null ? null : path.resolve(wish.out),
      rows: rowsSha256,
      ...(validationSha256 === null ? {} : { validation: validationSha256 }),
      settings: wish.request,
      base: identity.digest,
      weights,
      chain: chain.map(({ digest, scale }) => ({ digest, scale })),
    },
    start: wish.start,
    again,
  });
  let keep = true;
  try {
    const progress = trainingProgress(output, wish.request.max_length);
    const onAbort = (): void =>
      output.note('stopping, and saving a checkpoint; Ctrl-C again ends it at once');
    signal.addEventListener('abort', onAbort, { once: true });
    const end = await runTraining({
      program,
      args: [
        ...['--base', base, '--base-id', served?.id ?? identity.id],
        ...['--base-name', served === null || served.id === identity.id ? identity.name : served.id],
        ...['--cache', cache, '--weights', weights, '--provider', wish.provider],
        ...(wish.threads === null ? [] : ['--threads', String(wish.threads)]),
        ...['--rows', path.resolve(wish.rows), '--work', work.path],
        ...(wish.validation === null ? [] : ['--validation', path.resolve(wish.validation)]),
        ...['--settings', JSON.stringify(wish.request), '--chain', JSON.stringify(chain)],
        ...(wish.start === 'resume' || (wish.start === 'either' && work.hasCheckpoint()) ? ['--resume'] : []),
      ],
      env: runtime,
      onEvent: progress.hear,
      onOther: progress.hearOther,
      signal,
    }).finally(() => {
      progress.end();
      signal.removeEventListener('abort', onAbort);
    });
    if (end.event !== 'ready') {
      keep = work.hasCheckpoint();
      throw trainingError(end, { again, hasCheckpoint: keep, isStopping: signal.aborted });
    }
    const { folder } = end;
    const card = cardWith(end.card, wish.prompts ?? continued?.training?.prompts);
    // Before it is copied or published, by us or by hand.
    await writeFile(path.join(folder, TRAINING_FILE), `${JSON.stringify(card, null, 2)}\n`);
    if (wish.out !== null) await copyFolder(folder, wish.out);
    const published =
      client === null || wish.name === null || wish.out !== null
        ? null
        : await publishTrained({ ...params, client, name: wish.name, folder, parent });
    keep = false;
    return { card, published, continued };
  } finally {
    await work.close(keep);
  }
}

/** What a version was made from stays said of those that continue it. */
const cardWith = (card: TrainingCard, prompts: TrainingCard['prompts']): TrainingCard => {
  if (prompts === undefined) return card;
  // In the schema's order, by which cards are compared.
  return TrainingCard.parse({ ...card, prompts });
};

/** @returns sha256 of the file. @throws CliError `rows_missing` (usage) */
async function rowsDigest(file: string): Promise<string> {
  const unusable = (problem: string): CliError =>
    new CliError({
      message: `${file}: ${problem}. Give a file of rows: JSON Lines in OpenAI's chat format or with prompt and completion, or CSV.`,
      exitCode: EXIT.usage,
      code: 'rows_missing',
    });
  const entry = await stat(file).catch(() => null);
  if (entry === null) throw unusable('no such file');
  // A pipe could be read only once, and the training reads it again.
  if (!entry.isFile()) throw unusable(entry.isDirectory() ? 'this is a folder' : 'this is not a file');
  if (entry.size === 0) throw unusable('the file is empty');
  return fileSha256(file).catch((error: NodeJS.ErrnoException) => {
    throw unusable(`it cannot be read (${error.code ?? error.message})`);
  });
}

interface Server {
  readonly bases: readonly BaseInfo[];
  /** What the result will lie on. */
  readonly parent: VersionView | null;
  readonly continued: VersionView | null;
}

/** @throws CliError `model_not_found`, `parent_changed` */
async function lookAtServer(client: ApiClient, { name, parent, request }: TrainWish): Promise<Server> {
  const bases = await lookUpBases(client);
  if (request.continues !== true || name === null)
    return { bases, continued: null, parent: parent === null ? null : await liveVersion(client, parent) };
  const continued = await versionToContinue(client, name);
  if (continued.parent === null) return { bases, continued, parent: null };
  const below = await liveVersion(client, pinOf(continued.parent).name);
  if (below.chain_id !== (await chainId(continued.chain.slice(0, -1))))
    throw new CliError({
      message:
        `${continued.name}@${continued.version} was trained on ${continued.parent}, but ` +
        `${below.name}@${below.version} is live. Train a version on that one first: ` +
        `graft train <rows> --name ${name} --parent ${below.name}`,
      exitCode: EXIT.refused,
      code: PARENT_CHANGED,
    });
  return { bases, continued, parent: below };
}

/** @throws CliError `model_not_found` */
export async function versionToContinue(client: ApiClient, name: string): Promise<VersionView> {
  const live = (await lookUpVersions(client, name))?.versions.find((version) => version.live);
  if (live !== undefined) return live;
  throw new CliError({
    message: `'${name}' has no live version to continue. Train and promote a first one.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
    next: `graft train <rows> --name ${name}`,
  });
}

/** Digits of a digest that tell two bases apart. */
const SHORT = 12;
const baseText = ({ id, digest }: { id: string; digest: string }): string =>
  `${id} (${digest.slice(0, SHORT)})`;

/** @returns the server's base that has the same bytes. @throws CliError `base_mismatch` (refused) */
function checkBase(ours: BaseIdentity, { bases, ...server }: Server): BaseInfo {
  const parent = server.continued ?? server.parent;
  const mismatch = (message: string): CliError =>
    new CliError({ message, exitCode: EXIT.refused, code: 'base_mismatch' });
  if (parent !== null && parent.base.digest !== ours.digest)
    throw mismatch(
      `${parent.name}@${parent.version} is for the base ${baseText(parent.base)}, but this would ` +
        `train on ${baseText(ours)}. A chain has one base: give its own with --base.`,
    );
  const same = bases.find(({ digest }) => digest === ours.digest);
  if (same !== undefined) return same;
  const alike = bases.some(({ id }) => id === ours.id)
    ? ' They have the same id, but not the same bytes: they may be two quantizations.'
    : '';
  throw mismatch(
    `This would train on the base ${baseText(ours)}, but the server has ${bases.map(baseText).join(', ')}.` +
      `${alike} Give the server's base with --base, or write the adapter to a folder with --out.`,
  );
}

/** Of one module in a file's header, about; the plan only compares it with a limit. */
const HEADER_BYTES = 200;

/**
 * Asks what publishing would do, with the modules that will be trained in place of a file: who owns the name, whether
 * the parent may be used, and whether the chain stays within the base's limits.
 * @throws CliError in the server's words.
 */
async function checkRights(params: {
  client: ApiClient;
  wish: TrainWish;
  served: BaseInfo;
  parent: VersionView | null;
  continued: VersionView | null;
  output: Output;
}): Promise<void> {
  const { client, wish, served, parent, continued, output } = params;
  const { targets } = wish.request;
  const known = continued?.rank ?? 0;
  const rank = Math.min(known + wish.request.rank, Math.max(MAX_CONTINUED_RANK, known, wish.request.rank));
  const modules = served.modules.filter(({ name }) => name.includes('.layers.') && isTrained(name, targets));
  if (modules.length === 0) return;
  const digest = bytesSha256(JSON.stringify([wish.name, wish.request, served.digest, Date.now()]));
  const plan = await callOperation(client, `publish ${wish.name}`, 'POST /admin/versions/plan', {
    body: {
      name: wish.name ?? '',
      digest,
      parent: parent?.name ?? null,
      stage: true,
      file: {
        record: { bytes: 1, parts: [{ bytes: 1, sha256: digest }] },
        header_bytes: HEADER_BYTES * modules.length,
        base: served.id,
        parent: parent?.chain_id ?? null,
        modules: modules.map((module) => ({ ...module, rank })),
      },
    },
  });
  if (plan.notice !== undefined) output.note(plan.notice);
  const below = continued ?? parent;
  const on = below === null ? served.id : `${below.name}@${below.version}`;
  output.note(`training ${plan.name}@${plan.version} on ${on}`);
}

type ChainFile = ChainEntry & { readonly path: string };

/** Downloads the chain that is frozen. @returns root first. */
async function fetchChain(
  client: ApiClient | null,
  parent: VersionView | null,
  output: Output,
): Promise<ChainFile[]> {
  if (client === null || parent === null) return [];
  const { name, version } = parent;
  const fetched = await fetchVersion({ client, name, version, chain: true, output });
  return fetched.members.map(({ digest, scale, path: file }) => ({ digest, scale, path: file }));
}

/** The adapter's files, completely or not at all. @throws CliError `output_invalid` */
async function copyFolder(folder: string, out: string): Promise<void> {
  const names = await readdir(folder);
  const files = await Promise.all(
    names.map(async (name) => [name, await readFile(path.join(folder, name))] as const),
  );
  await writeOutput(out, new Map(files)).catch((error: unknown) => {
    throw keptIn(error, `The adapter is in ${folder}.`);
  });
}

/** @throws CliError that says where the adapter is, and how to publish it. */
async function publishTrained(
  params: Omit<TrainParams, 'client'> & {
    client: ApiClient;
    name: string;
    folder: string;
    parent: VersionView | null;
  },
): Promise<Published> {
  const { wish, client, output, signal, name, folder, parent, again } = params;
  const flag = parent === null ? '' : ` --parent ${parent.name}`;
  const byHand = `graft publish ${folder} --name ${name}${flag} --stage`;
  try {
    return await publishAdapter({
      given: folder,
      name,
      parent: parent?.name ?? null,
      stage: true,
      why: wish.why,
      ...(wish.madeFromPrompts === true ? { madeFromPrompts: true } : {}),
      ...(parent === null ? {} : { parentChainId: parent.chain_id }),
      client,
      output,
      signal,
    });
  } catch (error) {
    if (parent === null || !(error instanceof CliError) || !isGone(error))
      throw keptIn(error, `The adapter is in ${folder}; publish it with \`${byHand}\`.`);
    const trainedOn = `${parent.name}@${parent.version}`;
    throw new CliError({
      message:
        `${trainedOn}, on which this was trained, is no longer live, so nothing was published. The adapter is in ` +
        `${folder}. To publish it, make that version live again with \`graft promote ${trainedOn}\`, then run ` +
        `\`${byHand}\`. To train on the version that is live now, run \`${again('')}\`.`,
      exitCode: EXIT.refused,
      code: PARENT_CHANGED,
    });
  }
}

/** The parent has another live version now, or none. */
const isGone = ({ code }: CliError): boolean => code === PARENT_CHANGED || code === 'model_not_found';

function keptIn(error: unknown, where: string): unknown {
  if (!(error instanceof CliError)) return error;
  const { message, exitCode, code, reason } = error;
  return new CliError({ message: `${message} ${where}`, exitCode, code, reason });
}
