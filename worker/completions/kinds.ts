/** What the client API has where a model is asked: a path, how its bodies are read, and what else differs. */
import {
  embeddingInputs,
  parseChatCompletion,
  parseEmbedding,
  parseMessagesRequest,
  parseResponse,
  parseTextCompletion,
  type ApiError,
  type ChatCompletionRequest,
  type EmbeddingRequest,
  type MessagesRequest,
  type Parsed,
  type ParseOptions,
  type ResponseRequest,
  type Result,
  type TextCompletionRequest,
} from '../../protocol/index.ts';
import { isRepeatable } from '../experiments/disagreement.ts';
import type { TokenCounts } from '../metering/ports.ts';
import type { CompletionCall } from '../origins/client.ts';
import { mostTokens } from './most-tokens.ts';

export type CompletionBody =
  ChatCompletionRequest | TextCompletionRequest | ResponseRequest | MessagesRequest | EmbeddingRequest;

export interface CompletionKind<T extends CompletionBody = CompletionBody> {
  path: CompletionCall['path'];
  /** @param body parsed JSON. */
  parse(body: unknown, options: ParseOptions): Result<Parsed<T>, ApiError>;
  streams(body: T): boolean;
  /** Whom it names as its end user. */
  endUser(body: T): { user?: string | null | undefined; safetyIdentifier?: string | null | undefined };
  /** The most tokens that it can use. @param room the context of the base, tokens. */
  mostTokens(body: T, room: number): TokenCounts;
  /** Whether it may take part in an experiment. */
  joins: boolean;
  /** Whether two answers to it differ only where adapters do. */
  isRepeatable(body: T): boolean;
  /** Whether answers say something in words. */
  speaks: boolean;
}

const namedUser = (body: {
  user?: string | null | undefined;
  safety_identifier?: string | null | undefined;
}) => ({ user: body.user, safetyIdentifier: body.safety_identifier });

const answered = <T extends ChatCompletionRequest | TextCompletionRequest | ResponseRequest>(
  path: CompletionCall['path'],
  parse: CompletionKind<T>['parse'],
): CompletionKind<T> => ({
  ...{ path, parse, mostTokens, isRepeatable, endUser: namedUser },
  streams: ({ stream }) => stream === true,
  joins: true,
  speaks: true,
});

export const CHAT = answered('/v1/chat/completions', parseChatCompletion);
export const TEXT = answered('/v1/completions', parseTextCompletion);
export const RESPONSE = answered('/v1/responses', parseResponse);

export const MESSAGES: CompletionKind<MessagesRequest> = {
  path: '/v1/messages',
  parse: parseMessagesRequest,
  streams: ({ stream }) => stream === true,
  endUser: ({ metadata }) => ({ user: metadata?.user_id }),
  joins: true,
  speaks: true,
  isRepeatable,
  mostTokens: (body, room) =>
    mostTokens({ model: body.model, prompt: JSON.stringify(body), max_tokens: body.max_tokens }, room),
};

export const EMBEDDING: CompletionKind<EmbeddingRequest> = {
  path: '/v1/embeddings',
  parse: parseEmbedding,
  streams: () => false,
  endUser: namedUser,
  // Vectors of two versions cannot be compared: those of an index must all come from one.
  joins: false,
  speaks: false,
  isRepeatable: () => true,
  mostTokens(body, room) {
    const bytes = new TextEncoder().encode(JSON.stringify(body.input)).length;
    return { promptTokens: Math.min(bytes, embeddingInputs(body.input).length * room), completionTokens: 0 };
  },
};
