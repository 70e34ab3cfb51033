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
} from '../../protocol/index.ts';
import { AliasRequest } from '../intake/alias-name.ts';
import { CollectGarbageRequest } from '../intake/collect-garbage.ts';
import { EvaluateFileRequest } from '../intake/evaluate-file.ts';
import { FlipRequest } from '../intake/flip-version.ts';
import { PromoteRequest } from '../intake/promote-version.ts';
import { PublishRequest } from '../intake/publish-version.ts';
import { RepairRequest } from '../intake/repair/repair.ts';
import { ReserveRequest } from '../intake/reserve-room.ts';
import { RetireRequest } from '../intake/retire-version.ts';
import { RollbackRequest } from '../intake/rollback-version.ts';
import { StrictRequest } from '../intake/strict-name.ts';
import { VerifyVersionRequest } from '../intake/verify-version.ts';
import { GrantRequest } from '../routes/admin-grants.ts';
import { PinInput } from '../routes/admin-pins.ts';
import { RefusalInput } from '../routes/admin-refusals.ts';
import { ResetLimitsRequest, TenantLimitsRequest } from '../routes/admin-tenant-limits.ts';
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
