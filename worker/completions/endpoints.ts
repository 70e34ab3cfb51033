/** What the client API has where a model is asked: a path, how its bodies are read, what else differs, and what `model` asks for. */
import type { CompletionCall } from '../origins/send.ts';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import {
  parseChatCompletion,
  parseTextCompletion,
  type ChatCompletionRequest,
  type TextCompletionRequest,
} from '../../protocol/completion.ts';
import { embeddingInputs, parseEmbedding, type EmbeddingRequest } from '../../protocol/embed-tokenize.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { parseMessagesRequest, type MessagesRequest } from '../../protocol/messages.ts';
import type { Parsed, ParseOptions } from '../../protocol/parse-body.ts';
import { promptsIn } from '../../protocol/request-fields.ts';
import { maxTokensOf, parseResponse, type ResponseRequest } from '../../protocol/responses.ts';
import type { TokenCounts } from '../metering/ports.ts';

export type CompletionBody =
  ChatCompletionRequest | TextCompletionRequest | ResponseRequest | MessagesRequest | EmbeddingRequest;

export interface Endpoint<T extends CompletionBody = CompletionBody> {
  path: CompletionCall['path'];
  /** @param body parsed JSON. */
  parse(body: unknown, options: ParseOptions): Result<Parsed<T>, ApiError>;
  streams(body: T): boolean;
  /** Whom it names as its end user. */
  endUser(body: T): { user?: string | null | undefined; safetyIdentifier?: string | null | undefined };
  /** The most tokens that it can use. @param room the context of the base, tokens. */
  mostTokens(body: T, room: number): TokenCounts;
  /** Whether it may take part in an experiment. */
  inExperiments: boolean;
  /** Whether two answers to it differ only where adapters do. */
  isRepeatable(body: T): boolean;
  /** Whether answers say something in words. */
  returnsText: boolean;
}

/**
 * Whether two answers to the request differ only where adapters do: it is greedy, or its chance is seeded. Any other
 * answer differs from itself.
 */
export const isRepeatable = (request: {
  temperature?: number | null | undefined;
  seed?: number | null | undefined;
}): boolean => request.temperature === 0 || (request.seed ?? null) !== null;

const namedUser = (body: {
  user?: string | null | undefined;
  safety_identifier?: string | null | undefined;
}) => ({ user: body.user, safetyIdentifier: body.safety_identifier });

const answered = <T extends ChatCompletionRequest | TextCompletionRequest | ResponseRequest>(
  path: CompletionCall['path'],
  parse: Endpoint<T>['parse'],
): Endpoint<T> => ({
  ...{ path, parse, mostTokens, isRepeatable, endUser: namedUser },
  streams: ({ stream }) => stream === true,
  inExperiments: true,
  returnsText: true,
});

export const CHAT = answered('/v1/chat/completions', parseChatCompletion);
export const TEXT = answered('/v1/completions', parseTextCompletion);
export const RESPONSE = answered('/v1/responses', parseResponse);

export const MESSAGES: Endpoint<MessagesRequest> = {
  path: '/v1/messages',
  parse: parseMessagesRequest,
  streams: ({ stream }) => stream === true,
  endUser: ({ metadata }) => ({ user: metadata?.user_id }),
  inExperiments: true,
  returnsText: true,
  isRepeatable,
  mostTokens: (body, room) =>
    mostTokens({ model: body.model, prompt: JSON.stringify(body), max_tokens: body.max_tokens }, room),
};

export const EMBEDDING: Endpoint<EmbeddingRequest> = {
  path: '/v1/embeddings',
  parse: parseEmbedding,
  streams: () => false,
  endUser: namedUser,
  // Vectors of two versions cannot be compared: those of an index must all come from one.
  inExperiments: false,
  returnsText: false,
  isRepeatable: () => true,
  mostTokens(body, room) {
    const bytes = new TextEncoder().encode(JSON.stringify(body.input)).length;
    return { promptTokens: Math.min(bytes, embeddingInputs(body.input).length * room), completionTokens: 0 };
  },
};

/**
 * The most tokens that a request can use: what is counted for one whose client left it when its origin does not say what
 * it used, so that leaving is never cheaper than staying. A token of a prompt is a byte of the body at least, a prompt
 * and each of its answers fit the context together, and an answer ends at its limit or with the context.
 * @param room the context of the base, tokens.
 */
export function mostTokens(
  request: ChatCompletionRequest | TextCompletionRequest | ResponseRequest,
  room: number,
): TokenCounts {
  const bytes = new TextEncoder().encode(JSON.stringify(request)).length;
  const asked = maxTokensOf(request);
  const limit = asked === null || asked >= room ? null : asked;
  const prompts = 'prompt' in request ? promptsIn(request.prompt).length : 1;
  const promptTokens = Math.min(bytes, prompts * (room - (limit ?? 0)));
  const answers = prompts * ('n' in request ? (request.n ?? 1) : 1);
  // Without a limit each answer fills what its prompt leaves of the context.
  const completionTokens = limit === null ? answers * room - promptTokens : answers * limit;
  return { promptTokens, completionTokens };
}

/** What a client's `model` asks for. */
export type ModelReference =
  | { kind: 'base'; /** null = the default one. */ id: string | null }
  | { kind: 'name'; name: string }
  | { kind: 'version'; name: string; version: number }
  | { kind: 'illegal' };

/** @param baseIds ids of the bases, as far as they are known. */
export function parseModelReference(model: string, baseIds: readonly string[]): ModelReference {
  if (model === 'base') return { kind: 'base', id: null };
  if (baseIds.includes(model)) return { kind: 'base', id: model };
  const at = model.lastIndexOf('@');
  const name = at < 0 ? model : model.slice(0, at);
  if (nameProblem(name) !== null) return { kind: 'illegal' };
  if (at < 0) return { kind: 'name', name };
  const version = model.slice(at + 1);
  if (!/^[1-9]\d{0,8}$/.test(version)) return { kind: 'illegal' };
  return { kind: 'version', name, version: Number(version) };
}
