/** The schemas that the document has under a name: what requests bring, and what answers are. */
import { z } from 'zod';
import {
  API_ERROR_CODES,
  BlobRecord,
  ChangeExperiment,
  ChatCompletionRequest,
  CreateExperiment,
  EdgeFields,
  EvaluateAnswer,
  Experiment,
  ExperimentEvaluation,
  ExperimentList,
  ExperimentLooks,
  ExperimentStepRequest,
  ExperimentView,
  FeedbackAnswer,
  FeedbackRequest,
  KillExperiment,
  PromoteExperiment,
  RampExperiment,
  ResponseRequest,
  TextCompletionRequest,
} from '../../protocol/index.ts';
import { AliasRequest } from '../intake/alias-name.ts';
import { CollectGarbageRequest } from '../intake/collect-garbage.ts';
import { EvaluateFileRequest } from '../intake/evaluate-file.ts';
import { FlipRequest } from '../intake/flip-version.ts';
import { PromoteRequest } from '../intake/promote-version.ts';
import { PublishRequest } from '../intake/publish-version.ts';
import { RepairRequest } from '../intake/repair/repair.ts';
import { RetireRequest } from '../intake/retire-version.ts';
import { RollbackRequest } from '../intake/rollback-version.ts';
import { VerifyVersionRequest } from '../intake/verify-version.ts';
import { GrantRequest } from '../routes/admin-grants.ts';
import { PinInput } from '../routes/admin-pins.ts';
import { ChangeRequest, KeyRequest, RotateRequest } from '../routes/key-input.ts';

/** The edge takes its own fields out before the rest is parsed. */
const edge = EdgeFields.shape;

/** As they are sent: what has a default may be left out. */
export const BODIES = {
  AliasRequest,
  BlobRecord,
  ChangeExperiment,
  ChangeKeyRequest: ChangeRequest,
  ChatCompletionRequest: ChatCompletionRequest.extend(edge),
  CollectGarbageRequest,
  CreateExperiment,
  EvaluateFileRequest,
  /** Of {@link ChangeExperiment}. */
  ExperimentDocument: Experiment,
  /** Of `start`, `stop` and `archive`: a registry has one name for a schema. */
  ExperimentStepRequest,
  FeedbackRequest,
  FlipRequest,
  GrantRequest,
  KeyRequest,
  KillExperiment,
  PinRequest: PinInput,
  PromoteExperiment,
  PromoteRequest,
  PublishRequest,
  RampExperiment,
  RepairRequest,
  ResponseRequest: ResponseRequest.extend(edge),
  RetireRequest,
  RollbackRequest,
  RotateKeyRequest: RotateRequest,
  TextCompletionRequest: TextCompletionRequest.extend(edge),
  VerifyVersionRequest,
} satisfies Record<string, z.ZodType>;

/** Error of every route; `ErrorBody` of protocol/api-error.ts. */
const ErrorAnswer = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    /** The place in the request. */
    param: z.string().nullable(),
    code: z.enum(API_ERROR_CODES),
    missing: z.array(z.string()).optional(),
    reason: z.string().optional(),
  }),
});

/** As they are answered: every field is there that has a default. */
export const ANSWERS = {
  Error: ErrorAnswer,
  EvaluateAnswer,
  Experiment,
  ExperimentEvaluation,
  ExperimentList,
  ExperimentLooks,
  ExperimentView,
  FeedbackAnswer,
} satisfies Record<string, z.ZodType>;

export type BodyName = keyof typeof BODIES;
export type AnswerName = keyof typeof ANSWERS;
