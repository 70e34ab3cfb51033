export * from './adapter-manifest.ts';
export * from './admin-api/backup.ts';
export * from './admin-api/blobs.ts';
export * from './admin-api/erasures.ts';
export * from './admin-api/experiments.ts';
export * from './admin-api/grants.ts';
export * from './admin-api/keys.ts';
export * from './admin-api/names.ts';
export * from './admin-api/operation.ts';
export * from './admin-api/operations.ts';
export * from './admin-api/origins.ts';
export * from './admin-api/prompts.ts';
export * from './admin-api/rooms.ts';
export * from './admin-api/tenants.ts';
export * from './admin-api/traffic.ts';
export * from './admin-api/upkeep.ts';
export * from './admin-api/versions.ts';
export * from './api-error.ts';
export * from './browser-downloads.ts';
export * from './browser-publications.ts';
export * from './classes.ts';
export * from './classify.ts';
export * from './completion-answers.ts';
export * from './completion.ts';
export * from './embed-tokenize.ts';
export * from './experiment.ts';
export * from './identity.ts';
export * from './limits.ts';
export * from './messages.ts';
export * from './origin-wire.ts';
export * from './trace-context.ts';
export type { Parsed, ParseOptions } from './parse-body.ts';
export {
  IGNORED_HEADER,
  IgnoredPaths,
  STRICT_FIELDS_HEADER,
  badShape,
  isMap,
  issuePath,
  jsonShape,
  readIgnored,
  writeIgnored,
} from './parse-body.ts';
export type { Constraint, PlacedConstraint, SamplingFields, TextPrompt, ToolUse } from './request-fields.ts';
export {
  answersTo,
  ChatTool,
  ChatToolChoice,
  chatToolFields,
  checkTools,
  constraintsOf,
  FunctionCallItem,
  FunctionDefinition,
  FunctionOutputItem,
  isPromptList,
  JsonSchema,
  MAX_GRAMMAR_BYTES,
  MAX_GUIDED_CHARACTERS,
  MAX_GUIDED_CHOICES,
  MAX_SCHEMA_BYTES,
  MAX_TOOL_CALLS,
  MAX_TOOLS,
  promptsIn,
  refuseSecondConstraint,
  refuseTools,
  ResponseFormat,
  ResponseTool,
  ResponseToolChoice,
  responseToolFields,
  structuredFields,
  TextFormat,
  TextPrompts,
  ToolCall,
  toolUseOf,
} from './request-fields.ts';
export * from './responses.ts';
export * from './signature.ts';
export * from './state-words.ts';
export * from './files.ts';
export * from './fine-tuning.ts';
export * from './training.ts';
export * from './training-jobs.ts';
