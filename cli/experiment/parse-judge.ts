import { BASE_JUDGE, type CreateExperiment } from '../../protocol/index.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import { parseReference } from '../admin/version-argument.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { parseCount, usageError } from '../flags.ts';

export interface JudgeFlags {
  /** `base`, a name with or without a version, or the application's URL. */
  readonly judge?: string | undefined;
  /** Of a day. */
  readonly judgeTokens?: string | undefined;
  readonly keepPairs?: string | undefined;
}

type Judge = NonNullable<CreateExperiment['judge']>;

/** Version in the place of the live one until a server has been asked for that. */
const SOME_VERSION = 1;

/** @throws CliError (usage) */
export function parseJudge({ judge, judgeTokens, keepPairs }: JudgeFlags): Judge | undefined {
  if (judge === undefined) {
    const stray =
      judgeTokens !== undefined ? '--judge-tokens' : keepPairs !== undefined ? '--keep-pairs' : null;
    if (stray !== null) throw usageError(`${stray} is for a judge: --judge base.`);
    return undefined;
  }
  if (keepPairs !== undefined && !/^\d{1,3}$/.test(keepPairs))
    throw usageError(`--keep-pairs ${keepPairs} is not a number of pairs, such as 50.`);
  return {
    ...judgeOf(judge),
    ...(judgeTokens === undefined ? {} : { tokens_per_day: parseCount(judgeTokens, '--judge-tokens') }),
    ...(keepPairs === undefined ? {} : { keep_pairs: Number(keepPairs) }),
  };
}

function judgeOf(text: string): Judge {
  if (/^https?:\/\//i.test(text)) return { url: text };
  if (text === BASE_JUDGE) return { model: text };
  const { name, version } = parseReference(text);
  return { model: `${name}@${version ?? SOME_VERSION}` };
}

/** A name that judges means its live version, from now on. @throws CliError when it has none. */
export async function pinJudge(
  client: ApiClient,
  design: CreateExperiment,
  text: string | undefined,
): Promise<CreateExperiment> {
  const { judge } = design;
  if (judge?.model === undefined || text === undefined || text === BASE_JUDGE || text.includes('@'))
    return design;
  const live = (await lookUpVersions(client, text))?.versions.find((version) => version.live);
  if (live !== undefined) return { ...design, judge: { ...judge, model: `${text}@${live.version}` } };
  throw new CliError({
    message: `The judge ${text} has no live version: graft history ${text}`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
  });
}
