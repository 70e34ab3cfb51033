export * from './adapter-manifest.ts';
export * from './adapter-trials.ts';
export * from './admin-api/index.ts';
export * from './api-error.ts';
export * from './api-key.ts';
export * from './browser-downloads.ts';
export * from './completion.ts';
export * from './completion-answers.ts';
export * from './edge-fields.ts';
export * from './embeddings.ts';
export * from './experiment-api.ts';
export * from './experiment-answers.ts';
export * from './experiment-breakdown.ts';
export * from './state-words.ts';
export * from './experiment-guardrail.ts';
export * from './experiment-plan.ts';
export * from './experiment-judge.ts';
export * from './experiment.ts';
export * from './identity.ts';
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
export type { SamplingFields } from './sampling-fields.ts';
export * from './signature.ts';
export * from './text-prompt.ts';
export * from './tokenize.ts';
export * from './tools.ts';
export * from './structured-output.ts';
export * from './admin-api/usage.ts';
