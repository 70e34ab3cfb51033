/** The named schemas of the OpenAPI document: answers, and bodies of requests. */
import { z } from 'zod';
import { BlobRecord } from '../../../protocol/adapter-manifest.ts';
import {
  BackupPlan,
  BackupRows,
  BegunRestore,
  EndedRestore,
  MissingFiles,
  RestoredRows,
  BeginRestore,
  EndRestore,
  RestoreFiles,
  RestoreRows,
} from '../../../protocol/admin-api/backup.ts';
import { BlobPart, BlobState, DownloadView, FinishedBlob } from '../../../protocol/admin-api/blobs.ts';
import { EraseAnswer, EraseCounts, EraseRequest } from '../../../protocol/admin-api/erasures.ts';
import {
  ExperimentEvaluation,
  ExperimentList,
  ExperimentPlan,
  ExperimentLooks,
  ExperimentView,
  FeedbackAnswer,
  ChangeExperiment,
  CreateExperiment,
  ExperimentStepRequest,
  FeedbackRequest,
  KillExperiment,
  PromoteExperiment,
  RampExperiment,
} from '../../../protocol/admin-api/experiments.ts';
import {
  GrantList,
  GrantView,
  RefusalList,
  RefusalView,
  GrantRequest,
  RefusalInput,
} from '../../../protocol/admin-api/grants.ts';
import {
  KeyLimitsView,
  KeyList,
  KeyView,
  NewKey,
  RevocationView,
  RotatedKey,
  ChangeKeyRequest,
  KeyRequest,
  RotateKeyRequest,
} from '../../../protocol/admin-api/keys.ts';
import {
  AliasAnswer,
  ChangedName,
  ChangeList,
  ChangeView,
  LiveAnswer,
  NameList,
  NameView,
  RemoveAnswer,
  RemovedList,
  RemovedName,
  RestoreAnswer,
  RetireAnswer,
  StrictAnswer,
  EditAnswer,
  AliasRequest,
  PromoteRequest,
  RemoveRequest,
  RestoreRequest,
  RetireRequest,
  RollbackRequest,
  StrictRequest,
  EditRequest,
} from '../../../protocol/admin-api/names.ts';
import {
  NamedFile,
  OriginHistory,
  OriginList,
  OriginPin,
  OriginView,
  PinList,
  PinView,
  WarmAnswer,
  WarmedOrigin,
  PinInput,
  WarmRequest,
} from '../../../protocol/admin-api/origins.ts';
import { KeptPrompt } from '../../../protocol/admin-api/prompts.ts';
import { ReservedRoom, RoomList, RoomView, ReserveRequest } from '../../../protocol/admin-api/rooms.ts';
import {
  ResetLimitsAnswer,
  TenantLimitsList,
  TenantLimitsView,
  UsageReport,
  ResetLimitsRequest,
  TenantLimitsRequest,
} from '../../../protocol/admin-api/tenants.ts';
import { RequestList, RequestView, TrafficReport } from '../../../protocol/admin-api/traffic.ts';
import {
  CollectGarbageAnswer,
  GarbageFile,
  Mended,
  RepairAnswer,
  CollectGarbageRequest,
  RepairRequest,
} from '../../../protocol/admin-api/upkeep.ts';
import {
  FileVersions,
  OriginVerdict,
  PublishedVersion,
  PublishPlan,
  VerifyVersionAnswer,
  VersionList,
  VersionsAnswer,
  VersionView,
  EvaluateFileRequest,
  PlanRequest,
  PublishRequest,
  VerifyVersionRequest,
} from '../../../protocol/admin-api/versions.ts';
import { API_ERROR_CODES } from '../../../protocol/api-error.ts';
import { DownloadChain, DownloadToken, DownloadTokenRequest } from '../../../protocol/browser-downloads.ts';
import { Model, ModelList } from '../../../protocol/completion-answers.ts';
import { ChatCompletionRequest, EdgeFields, TextCompletionRequest } from '../../../protocol/completion.ts';
import {
  DetokenizeAnswer,
  EmbeddingList,
  TokenizeAnswer,
  DetokenizeRequest,
  EmbeddingRequest,
  TokenizeRequest,
} from '../../../protocol/embed-tokenize.ts';
import { Experiment, JudgeSecret, KeptPairList } from '../../../protocol/experiment.ts';
import { CountTokensAnswer, CountTokensRequest, MessagesRequest } from '../../../protocol/messages.ts';
import { BaseInfo, EvaluateAnswer, OriginFigures, ResidentList } from '../../../protocol/origin-wire.ts';
import { InputTokensAnswer, ResponseRequest } from '../../../protocol/responses.ts';

/** Error of every route; `ErrorBody` of protocol/api-error.ts. */
const ErrorAnswer = z.strictObject({
  error: z.strictObject({
    message: z.string(),
    type: z.string(),
    /** The path in the request. */
    param: z.string().nullable(),
    code: z.enum(API_ERROR_CODES),
    missing: z.array(z.string()).optional(),
    reason: z.string().optional(),
  }),
});

const HealthAnswer = z.object({ status: z.literal('ok') });

/**
 * As answered: every field with a default is present, and no others. Clients that parse with these schemas drop
 * unknown fields.
 */
export const ANSWERS = {
  AliasAnswer,
  BackupPlan,
  BackupRows,
  BaseInfo,
  BegunRestore,
  BlobPart,
  BlobState,
  ChangedName,
  ChangeList,
  ChangeView,
  CollectGarbageAnswer,
  CountTokensAnswer,
  DetokenizeAnswer,
  DownloadChain,
  DownloadToken,
  DownloadView,
  EmbeddingList,
  EndedRestore,
  EraseAnswer,
  EraseCounts,
  Error: ErrorAnswer,
  EvaluateAnswer,
  Experiment,
  ExperimentEvaluation,
  ExperimentList,
  ExperimentPlan,
  ExperimentLooks,
  ExperimentView,
  FeedbackAnswer,
  FileVersions,
  FinishedBlob,
  LiveAnswer,
  GarbageFile,
  GrantList,
  GrantView,
  Health: HealthAnswer,
  InputTokensAnswer,
  JudgeSecret,
  KeptPairList,
  KeyLimits: KeyLimitsView,
  KeptPrompt,
  KeyList,
  KeyView,
  Mended,
  MissingFiles,
  Model,
  ModelList,
  NameList,
  NameView,
  NewKey,
  NamedFile,
  OriginFigures,
  OriginHistory,
  OriginList,
  OriginPin,
  OriginVerdict,
  OriginView,
  PinList,
  PinView,
  PublishedVersion,
  PublishPlan,
  RefusalList,
  RefusalView,
  RequestList,
  RequestView,
  RemoveAnswer,
  RemovedList,
  RemovedName,
  RepairAnswer,
  ReservedRoom,
  ResetLimitsAnswer,
  ResidentList,
  RestoreAnswer,
  RestoredRows,
  RetireAnswer,
  RoomList,
  RoomView,
  RevocationView,
  RotatedKey,
  StrictAnswer,
  EditAnswer,
  TenantLimitsList,
  TenantLimitsView,
  TokenizeAnswer,
  TrafficReport,
  UsageReport,
  VerifyVersionAnswer,
  VersionList,
  VersionView,
  Versions: VersionsAnswer,
  WarmAnswer,
  WarmedOrigin,
} satisfies Record<string, z.ZodType>;

export type AnswerName = keyof typeof ANSWERS;

/** The edge removes its own fields before the rest is parsed. */
const edge = EdgeFields.shape;

/** As sent: fields with a default may be omitted. */
export const BODIES = {
  AliasRequest,
  BeginRestore,
  BlobRecord,
  ChangeExperiment,
  ChangeKeyRequest,
  ChatCompletionRequest: ChatCompletionRequest.extend(edge),
  CollectGarbageRequest,
  CountTokensRequest,
  CreateExperiment,
  DetokenizeRequest,
  DownloadTokenRequest,
  EmbeddingRequest: EmbeddingRequest.extend(edge),
  EndRestore,
  EraseRequest,
  EvaluateFileRequest,
  /** Of {@link ChangeExperiment}. */
  ExperimentDocument: Experiment,
  /** Of `start`, `stop` and `archive`: a registry has one name for a schema. */
  ExperimentStepRequest,
  FeedbackRequest,
  GrantRequest,
  KeyRequest,
  KillExperiment,
  MessagesRequest: MessagesRequest.extend(edge),
  PinRequest: PinInput,
  PlanRequest,
  PromoteExperiment,
  PromoteRequest,
  PublishRequest,
  RampExperiment,
  RefusalInput,
  RemoveRequest,
  RepairRequest,
  ReserveRequest,
  ResetLimitsRequest,
  ResponseRequest: ResponseRequest.extend(edge),
  RestoreFiles,
  RestoreRequest,
  RestoreRows,
  RetireRequest,
  RollbackRequest,
  RotateKeyRequest,
  StrictRequest,
  EditRequest,
  TenantLimitsRequest,
  TextCompletionRequest: TextCompletionRequest.extend(edge),
  TokenizeRequest,
  VerifyVersionRequest,
  WarmRequest,
} satisfies Record<string, z.ZodType>;

export type BodyName = keyof typeof BODIES;
