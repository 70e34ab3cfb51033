/** What more than one room of the worker answers when something is not possible; protocol/ has the codes and statuses. */
import type { ApiError } from '../protocol/api-error.ts';
import { RETRY_AFTER_MS } from './limits.ts';

/** A store, or what is in front of it, does not answer, or has not taken all of a change. */
export const registryUnavailable = (
  retryAfterMs: number = RETRY_AFTER_MS,
  message = 'The registry does not answer. Retry in a few seconds.',
): ApiError => ({ code: 'registry_unavailable', message, retryAfterMs });

/** Until the deletion of a file has ended; its upload may begin anew then. */
const DELETION_MS = 5_000;

/** Its bytes are being deleted after a long time without use. */
export const beingDeleted = (digest: string): ApiError =>
  registryUnavailable(
    DELETION_MS,
    `The file ${digest} was long unused and is being deleted. Upload it again in a few seconds.`,
  );

/** No origin answers, or none in a way that makes sense. */
export const originUnavailable = (): ApiError => ({
  code: 'origin_unavailable',
  message: 'The model server cannot be reached. Retry in a few seconds.',
  retryAfterMs: RETRY_AFTER_MS,
});

/** No origin of this edge is one of this base. @param served ids of the bases that there are. */
export const baseUnserved = (base: string, served: readonly string[]): ApiError => ({
  ...originUnavailable(),
  message: `No origin of this edge serves the base '${base}'. It serves ${served.join(', ')}.`,
});

/** An origin that is there did not get the adapter. */
export const adapterUnavailable = (message: string): ApiError => ({
  code: 'adapter_unavailable',
  message,
  retryAfterMs: RETRY_AFTER_MS,
});

/** @param reason what is wrong with the file or its place, in snake case. @param param the field at fault. */
export const adapterInvalid = (reason: string, message: string, param?: string): ApiError => ({
  code: 'adapter_invalid',
  message,
  reason,
  ...(param === undefined ? {} : { param }),
});

/** A name that means one of the bases. */
export const ownNameOfBase = (name: string): ApiError =>
  adapterInvalid('name_reserved', `'${name}' is the base model's own name.`, 'name');

/** Longer names are cut in messages. */
const SHOWN_CHARACTERS = 128;

/** The same for what does not exist and what the caller may not use. @param suggestions names that it may, nearest first. */
export function modelNotFound(model: string, suggestions: readonly string[]): ApiError {
  const shown = model.length > SHOWN_CHARACTERS ? `${model.slice(0, SHOWN_CHARACTERS)}…` : model;
  const hint =
    suggestions.length === 0 ? '' : ` Did you mean ${suggestions.map((name) => `'${name}'`).join(' or ')}?`;
  return {
    code: 'model_not_found',
    message: `The model '${shown}' does not exist or you do not have access to it.${hint}`,
  };
}

/** The same of a name, or a version of one, that somebody wants to change or build upon. */
export const adapterNotFound = (what: string): ApiError => ({
  code: 'model_not_found',
  message: `'${what}' does not exist or you do not have access to it.`,
});

/** What is said to who may use the whole chain: not whose adapter it was. */
export const modelWithdrawn = (model: string): ApiError => ({
  code: 'model_withdrawn',
  message: `'${model}' is no longer served: the owner of an adapter that it depends on retired it.`,
});

/** Not possible in the state that the name, the experiment or the key is in. @param param the field at fault. */
export const conflict = (message: string, param?: string): ApiError => ({
  code: 'version_conflict',
  message,
  ...(param === undefined ? {} : { param }),
});

/** Keys of other tenants do not exist. */
export const NO_SUCH_KEY: ApiError = { code: 'not_found', message: 'No such key.' };
