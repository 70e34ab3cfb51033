export * from './adapter-manifest.ts';
export * from './adapter-trials.ts';
export * from './admin-api/index.ts';
export * from './api-error.ts';
export * from './api-key.ts';
export * from './identity.ts';
export * from './browser-downloads.ts';
export * from './completion.ts';
export * from './completion-answers.ts';
export * from './embeddings.ts';
export * from './experiment-api.ts';
export * from './experiment-answers.ts';
export * from './experiment-breakdown.ts';
export * from './state-words.ts';
export * from './experiment-guardrail.ts';
export * from './experiment-judge.ts';
export * from './experiment.ts';
export * from './limits.ts';
export * from './parse-messages.ts';
export * from './messages.ts';
export * from './origin-notes.ts';
export * from './origin-request.ts';
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
export * from './responses.ts';
export * from './signature.ts';
export type { TextPrompt } from './prompt-fields.ts';
export { answersTo, isPromptList, promptsIn, TextPrompts } from './prompt-fields.ts';
export * from './tokenize.ts';
export * from './tools.ts';
export type { Constraint, PlacedConstraint, SamplingFields } from './answer-fields.ts';
export {
  constraintsOf,
  JsonSchema,
  MAX_GRAMMAR_BYTES,
  MAX_GUIDED_CHARACTERS,
  MAX_GUIDED_CHOICES,
  MAX_SCHEMA_BYTES,
  refuseSecondConstraint,
  ResponseFormat,
  structuredFields,
  TextFormat,
} from './answer-fields.ts';
export * from './admin-api/usage.ts';
