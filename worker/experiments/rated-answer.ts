import {
  answerTextOf,
  err,
  ok,
  type ApiError,
  type Experiment,
  type FeedbackRequest,
  type Result,
} from '../../protocol/index.ts';
import { variantTag, type AnswerTokens } from './answer-token.ts';
import type { Exposure, ExposureProblem, ExposureTokens } from './exposure-token.ts';

/** The answer that is rated, as its token or its id says. */
export interface RatedAnswer extends Pick<Exposure, 'id' | 'experiment' | 'version' | 'unit' | 'at'> {
  /** The field that named it. */
  param: 'exposure' | 'id';
  /** @returns null when the document does not have it any more, and its name is in nothing else. */
  variantIn(document: Experiment): string | null;
}

type Asked = Parameters<ExposureTokens['open']>[1];

/** Opens whichever of the two the request has. */
export async function ratedAnswer(
  tokens: { exposureTokens: ExposureTokens; answerTokens: AnswerTokens },
  { id, exposure }: Pick<FeedbackRequest, 'id' | 'exposure'>,
  asked: Asked,
): Promise<Result<RatedAnswer, ApiError>> {
  if ((id === undefined) === (exposure === undefined)) return err(ONE_OF_BOTH);
  if (exposure !== undefined) {
    const opened = await tokens.exposureTokens.open(exposure, asked);
    if (!opened.ok) return err(problemOf('exposure', opened.error));
    const { variant } = opened.value;
    return ok({ ...opened.value, param: 'exposure', variantIn: () => variant });
  }
  const opened = await tokens.answerTokens.open(answerTextOf(id ?? '') ?? '', asked);
  if (!opened.ok) return err(problemOf('id', opened.error));
  const { variantTag: tag, ...rated } = opened.value;
  return ok({
    ...{ ...rated, param: 'id' },
    variantIn: ({ variants }) => variants.find(({ key }) => variantTag(key) === tag)?.key ?? null,
  });
}

const ONE_OF_BOTH: ApiError = {
  code: 'invalid_request',
  message: "Send either 'id', the id of the rated answer, or 'exposure', its header 'x-graft-exposure'.",
  param: 'id',
};

const WHAT = {
  exposure: {
    none: 'This is no exposure token.',
    forged: 'This exposure token was not made here, or was changed since.',
    send: "Send the header 'x-graft-exposure' of the answer that is rated, as it came.",
  },
  id: {
    none: 'This is the id of no answer that can be rated: it belongs to no experiment, or an older model server made it.',
    forged: 'This id was not made here, or was changed since.',
    send: "Send the answer's id as it came, or its header 'x-graft-exposure' as 'exposure'.",
  },
};

function problemOf(param: 'exposure' | 'id', problem: ExposureProblem): ApiError {
  const { none, forged, send } = WHAT[param];
  switch (problem.kind) {
    case 'malformed':
      return { code: 'exposure_malformed', message: `${none} ${send}`, param };
    case 'forged':
      return { code: 'exposure_forged', message: `${forged} ${send}`, param };
    case 'other_tenant':
      return {
        code: 'exposure_of_another_tenant',
        message: 'The rated answer was given to another tenant; use a key of that tenant.',
        param,
      };
    case 'expired':
      return {
        code: 'exposure_expired',
        message: `Feedback on this answer was taken until ${new Date(problem.expiredAt).toISOString()}.`,
        param,
      };
  }
}
