import { z } from 'zod';
import { AdapterName, Digest } from '../../../protocol/index.ts';
import { USER_HEADER } from '../../experiments/take-part.ts';
import type { AnswerName } from './answers.ts';
import type { BodyName } from './bodies.ts';

/** What one answer is; without a schema it is an object that others describe: OpenAI. */
export interface OperationAnswer {
  description: string;
  schema?: AnswerName;
  /** That as well as JSON, as the request asks. */
  body?: 'text/event-stream';
  /** It is no JSON at all. */
  bytes?: true;
  /** Beside those that every answer has: name -> description. */
  headers?: Record<string, string>;
}

/** One of the client API. */
export interface Operation {
  /** `operationId`: what generated clients call it. */
  id: string;
  tag: string;
  summary: string;
  description?: string;
  /** Which kind of key it takes. */
  key: 'api' | 'download' | 'none';
  query?: z.ZodObject;
  /** Name -> description. */
  headers?: Record<string, string>;
  body?: BodyName;
  answers: Record<number, OperationAnswer>;
}

/** By the route as the app has it, `GET /v1/models/*`. */
export type Operations = Readonly<Record<string, Operation>>;

const COMPLETION_HEADERS = {
  'x-graft-adapter': 'What served: `name@version`, or `base`.',
  'x-graft-experiment': 'Id of the experiment that the request was in.',
  'x-graft-variant': 'Key of the variant that served.',
  'x-graft-exposure': 'Of counted requests: what feedback on this answer is given with.',
};

const completion = (id: string, summary: string, body: BodyName, answer: string): Operation => ({
  id,
  tag: 'completions',
  key: 'api',
  summary,
  headers: { [USER_HEADER]: 'The end user, for experiments, where the body names none.' },
  body,
  answers: {
    200: {
      description: `${answer} of OpenAI's API; events of it with \`stream\`.`,
      body: 'text/event-stream',
      headers: COMPLETION_HEADERS,
    },
  },
});

/** What applications call. */
export const CLIENT_OPERATIONS: Operations = {
  'POST /v1/chat/completions': completion(
    'createChatCompletion',
    'A chat completion by the adapter that `model` names.',
    'ChatCompletionRequest',
    'The chat completion',
  ),
  'POST /v1/completions': completion(
    'createCompletion',
    'A text completion by the adapter that `model` names.',
    'TextCompletionRequest',
    'The completion',
  ),
  'POST /v1/responses': completion(
    'createResponse',
    'A response by the adapter that `model` names.',
    'ResponseRequest',
    'The response',
  ),
  'POST /v1/messages': {
    ...completion(
      'createMessage',
      'A message of Anthropic’s API by the adapter that `model` names.',
      'MessagesRequest',
      'The message',
    ),
    answers: {
      200: {
        description: 'The message of Anthropic’s API; events of it with `stream`.',
        body: 'text/event-stream',
        headers: COMPLETION_HEADERS,
      },
    },
  },
  'POST /v1/messages/count_tokens': {
    id: 'countMessageTokens',
    tag: 'models',
    key: 'api',
    summary: 'How many tokens a message’s prompt has.',
    body: 'CountTokensRequest',
    answers: { 200: { description: 'Their number.', schema: 'CountTokensAnswer' } },
  },
  'POST /v1/responses/input_tokens': {
    id: 'countResponseTokens',
    tag: 'models',
    key: 'api',
    summary: 'How many tokens a response’s prompt has.',
    body: 'ResponseRequest',
    answers: { 200: { description: 'Their number.', schema: 'InputTokensAnswer' } },
  },
  'POST /v1/embeddings': {
    id: 'createEmbedding',
    tag: 'completions',
    key: 'api',
    summary: 'A vector for each text, by the adapter that `model` names.',
    description:
      'The hidden states of the tokens, pooled and brought to length 1. No experiment is joined: vectors of two versions cannot be compared.',
    body: 'EmbeddingRequest',
    answers: { 200: { description: 'The vectors, in the order of the texts.', schema: 'EmbeddingList' } },
  },
  'POST /tokenize': {
    id: 'tokenize',
    tag: 'models',
    key: 'api',
    summary: 'A text, or a conversation in the chat template, as token ids.',
    body: 'TokenizeRequest',
    answers: { 200: { description: 'Their ids and number.', schema: 'TokenizeAnswer' } },
  },
  'POST /detokenize': {
    id: 'detokenize',
    tag: 'models',
    key: 'api',
    summary: 'The text of token ids.',
    body: 'DetokenizeRequest',
    answers: { 200: { description: 'The text.', schema: 'DetokenizeAnswer' } },
  },
  'POST /v1/feedback': {
    id: 'giveFeedback',
    tag: 'experiments',
    key: 'api',
    summary: 'What an application, or its user, thinks of an answer that belongs to an experiment.',
    body: 'FeedbackRequest',
    answers: { 200: { description: 'It is counted, or was before.', schema: 'FeedbackAnswer' } },
  },
  'POST /v1/download-tokens': {
    id: 'makeDownloadToken',
    tag: 'adapters',
    key: 'api',
    summary: 'A short-lived token with which a page fetches adapters. Keys with the right to download only.',
    body: 'DownloadTokenRequest',
    answers: { 200: { description: 'The token, and what it opens.', schema: 'DownloadToken' } },
  },
  'GET /v1/downloads': {
    id: 'readDownloadChain',
    tag: 'adapters',
    key: 'download',
    summary: 'The live version of a name, and the parts of its chain’s files. Takes a download token.',
    query: z.strictObject({ name: AdapterName }),
    answers: { 200: { description: 'The chain, root first.', schema: 'DownloadChain' } },
  },
  'GET /v1/downloads/parts/:index{[0-9]{1,4}}': {
    id: 'readDownloadPart',
    tag: 'adapters',
    key: 'download',
    summary: 'One part of a file of a version’s chain. Takes a download token.',
    query: z.strictObject({ name: AdapterName, version: z.string(), digest: Digest }),
    answers: { 200: { description: 'Its bytes.', bytes: true } },
  },
  'GET /v1/models': {
    id: 'listModels',
    tag: 'models',
    key: 'api',
    summary: 'What the key may use.',
    query: z.strictObject({ prefix: z.string().optional(), after: z.string().optional() }),
    answers: { 200: { description: 'Models of OpenAI’s API, at most 1,000.', schema: 'ModelList' } },
  },
  'GET /v1/models/*': {
    id: 'readModel',
    tag: 'models',
    key: 'api',
    summary: 'One name; its slashes raw or encoded.',
    answers: { 200: { description: 'A model of OpenAI’s API.', schema: 'Model' } },
  },
  'GET /health': {
    id: 'readHealthAsVllm',
    tag: 'models',
    key: 'none',
    summary: 'The same as `/healthz`, where clients of vLLM look.',
    answers: { 200: { description: 'It lives.', schema: 'Health' } },
  },
  'GET /healthz': {
    id: 'readHealth',
    tag: 'models',
    key: 'none',
    summary: 'Whether the edge lives.',
    answers: { 200: { description: 'It does.', schema: 'Health' } },
  },
  'GET /readyz': {
    id: 'readReadiness',
    tag: 'models',
    key: 'none',
    summary: 'Whether the edge can serve: its registry and an origin answer. 503 when not.',
    answers: { 200: { description: 'It can.', schema: 'Health' } },
  },
};
