/** Errors shared by several rooms of the worker; protocol/ has the codes and statuses. */
import type { ApiError } from '../protocol/api-error.ts';
import { RETRY_AFTER_MS } from './limits.ts';

/** A store, or what is in front of it, does not answer, or has not stored all of a change. */
export const registryUnavailable = (
  retryAfterMs: number = RETRY_AFTER_MS,
  message = 'The registry does not answer. Retry in a few seconds.',
): ApiError => ({ code: 'registry_unavailable', message, retryAfterMs });

/** Until the deletion of a file has ended; its upload can then start over. */
export const DELETION_MS = 5_000;

/** Its bytes are being deleted after a long time without use. */
export const beingDeleted = (digest: string): ApiError =>
  registryUnavailable(
    DELETION_MS,
    `The file ${digest} was long unused and is being deleted. Upload it again in a few seconds.`,
  );

/** No origin answers, or none with a valid answer. */
export const originUnavailable = (): ApiError => ({
  code: 'origin_unavailable',
  message: 'The model server cannot be reached. Retry in a few seconds.',
  retryAfterMs: RETRY_AFTER_MS,
});

/** No origin of this edge has this base. @param served ids of the bases that it has. */
export const baseUnserved = (base: string, served: readonly string[]): ApiError => ({
  ...originUnavailable(),
  message: `No origin of this edge serves the base '${base}'. It serves ${served.join(', ')}.`,
});

/** An available origin did not get the adapter. */
export const adapterUnavailable = (message: string): ApiError => ({
  code: 'adapter_unavailable',
  message,
  retryAfterMs: RETRY_AFTER_MS,
});

/** @param reason what is wrong with the file or its place, in snake case. @param param the invalid field. */
export const adapterInvalid = (reason: string, message: string, param?: string): ApiError => ({
  code: 'adapter_invalid',
  message,
  reason,
  ...(param === undefined ? {} : { param }),
});

/** A name that means one of the bases. */
export const ownNameOfBase = (name: string): ApiError =>
  adapterInvalid('name_reserved', `'${name}' is the base model's own name.`, 'name');

/** Longer names are truncated in messages. */
const SHOWN_CHARACTERS = 128;

/**
 * The same for missing names and those that the caller may not use. @param suggestions names that it may use,
 * nearest first.
 */
export function modelNotFound(model: string, suggestions: readonly string[]): ApiError {
  const shown = model.length > SHOWN_CHARACTERS ? `${model.slice(0, SHOWN_CHARACTERS)}…` : model;
  const hint =
    suggestions.length === 0 ? '' : ` Did you mean ${suggestions.map((name) => `'${name}'`).join(' or ')}?`;
  return {
    code: 'model_not_found',
    message: `The model '${shown}' does not exist or you do not have access to it.${hint}`,
  };
}

/** The same for a name, or a version, that somebody wants to change or build on. */
export const adapterNotFound = (what: string): ApiError => ({
  code: 'model_not_found',
  message: `'${what}' does not exist or you do not have access to it.`,
});

/** For callers that may use the whole chain: does not reveal whose adapter it was. */
export const modelWithdrawn = (model: string): ApiError => ({
  code: 'model_withdrawn',
  message: `'${model}' is no longer served: the owner of an adapter that it depends on retired it.`,
});

/** Impossible in the current state of the name, experiment or key. @param param the invalid field. */
export const conflict = (message: string, param?: string): ApiError => ({
  code: 'version_conflict',
  message,
  ...(param === undefined ? {} : { param }),
});

/** Other tenants' keys do not exist for the caller. */
export const NO_SUCH_KEY: ApiError = { code: 'not_found', message: 'No such key.' };
