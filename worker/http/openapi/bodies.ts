/** What requests bring: the schemas that the document has under a name. */
import type { z } from 'zod';
import {
  BlobRecord,
  ChangeExperiment,
  ChatCompletionRequest,
  CreateExperiment,
  EdgeFields,
  Experiment,
  ExperimentStepRequest,
  FeedbackRequest,
  KillExperiment,
  PromoteExperiment,
  RampExperiment,
  ResponseRequest,
  TextCompletionRequest,
} from '../../../protocol/index.ts';
import { AliasRequest } from '../../registry/alias-name.ts';
import { CollectGarbageRequest } from '../../blobs/collect-garbage.ts';
import { EvaluateFileRequest } from '../../origins/evaluate-file.ts';
import { FlipRequest } from '../../registry/go-live.ts';
import { PromoteRequest } from '../../registry/promote-version.ts';
import { PublishRequest } from '../../registry/publish-version.ts';
import { RepairRequest } from '../../registry/repair.ts';
import { ReserveRequest } from '../../registry/reserve-room.ts';
import { RetireRequest } from '../../registry/retire-version.ts';
import { RollbackRequest } from '../../registry/rollback-version.ts';
import { StrictRequest } from '../../registry/strict-name.ts';
import { VerifyVersionRequest } from '../../registry/verify-version.ts';
import { GrantRequest } from '../../access/grants-routes.ts';
import { PinInput } from '../../origins/pins-routes.ts';
import { RefusalInput } from '../../access/refusals-routes.ts';
import { ResetLimitsRequest, TenantLimitsRequest } from '../../metering/tenant-limits-routes.ts';
import { ChangeRequest, KeyRequest, RotateRequest } from '../../access/key-input.ts';

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
  RefusalInput,
  RepairRequest,
  ReserveRequest,
  ResetLimitsRequest,
  ResponseRequest: ResponseRequest.extend(edge),
  RetireRequest,
  RollbackRequest,
  RotateKeyRequest: RotateRequest,
  StrictRequest,
  TenantLimitsRequest,
  TextCompletionRequest: TextCompletionRequest.extend(edge),
  VerifyVersionRequest,
} satisfies Record<string, z.ZodType>;

export type BodyName = keyof typeof BODIES;
