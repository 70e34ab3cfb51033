/** Runs a chat completion's body in this worker's engine, to OpenAI's chunks or to one answer. */
import { choiceSeeds, samplingParamsOf } from '../../gpu-origin/generation/sampler.ts';
import {
  chatFormat,
  type CompletionFormat,
  type WholeAnswer,
  callSyntaxOf,
} from '../../gpu-origin/http/completion-formats.ts';
import { usageCounter, mergeChoices } from '../../gpu-origin/http/run-prompts.ts';
import { promptsOf } from '../../gpu-origin/prompts/prompt.ts';
import type { ChatCompletion, ChatCompletionChunk } from '../../protocol/completion-answers.ts';
import { type ChatCompletionRequest, parseChatCompletion } from '../../protocol/completion.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import { GraftError } from '../messages.ts';
import type { EngineHere } from './in-browser-engine.ts';

/** The engine shares itself among tenants; a page is one. */
const TENANT = 'page';

export interface ChatParams {
  body: Record<string, unknown>;
  /** The `model` of the answer. */
  model: string;
  chain: readonly ChainEntry[];
  signal: AbortSignal;
  /** Called for each chunk if the body has `stream: true`. */
  onPart: (part: ChatCompletionChunk) => void;
}

/** @returns the answer; null if it was streamed. @throws GraftError */
export async function answerChat(here: EngineHere, params: ChatParams): Promise<ChatCompletion | null> {
  const { chain, signal, onPart } = params;
  const request = readRequest({ ...params.body, model: params.model });
  const prompts = await promptsOf(request, here, { tenant: TENANT, signal });
  if (!prompts.ok) throw new GraftError(prompts.error);
  const [prompt] = prompts.value;
  const sampling = samplingParamsOf(request);
  const choices = request.n ?? 1;
  const ofPrompt = request.prompt_logprobs ?? null;
  const grammar = await here.held.prepare(request, { tenant: TENANT, signal });
  const added = await here.engine
    .addChoices(
      {
        ...{ id: TENANT, tenant: TENANT, prompt: prompt!.ids, chain, sampling, budgetMs: null, signal },
        ...(grammar === null ? {} : { grammar }),
        promptLogprobs: ofPrompt,
        promptRanks: ofPrompt !== null,
      },
      choiceSeeds(sampling.seed, choices),
    )
    // Every answer starts with it.
    .finally(() => grammar?.release());
  if (!added.ok) throw new GraftError(added.error);
  const format = chatFormat({
    ...{ model: params.model, choices, tokenizer: here.tokenizer, promptLogprobs: ofPrompt },
    calls: callSyntaxOf(request, here),
    id: crypto.randomUUID().replaceAll('-', ''),
    created: Math.floor(Date.now() / 1000),
    includeUsage: request.stream_options?.include_usage === true,
    logprobs: sampling.logprobs !== null,
  });
  const events = mergeChoices(added.value);
  const usage = usageCounter(prompt!.ids.length, choices);
  const send =
    request.stream === true
      ? (parts: unknown[]): void => parts.forEach((part) => onPart(part as ChatCompletionChunk))
      : null;
  const answers = await run({ events, format, usage, choices, send }).catch((error: unknown) => {
    // The other choices are no longer read.
    for (const handle of added.value) handle.abort();
    throw error;
  });
  if (send === null) return format.whole(answers, usage.total()) as ChatCompletion;
  send(format.ending(usage.total()));
  return null;
}

/** @returns all answers when they have ended. @throws GraftError */
async function run(params: {
  events: ReturnType<typeof mergeChoices>;
  format: CompletionFormat;
  usage: ReturnType<typeof usageCounter>;
  choices: number;
  send: ((parts: unknown[]) => void) | null;
}): Promise<WholeAnswer[]> {
  const { events, format, usage, choices, send } = params;
  const answers = Array.from({ length: choices }, () => ({
    ...{ text: '', prompt: [] as WholeAnswer['prompt'], finishReason: 'stop' as const },
    tokens: [] as WholeAnswer['tokens'][number][],
    parts: [] as WholeAnswer['parts'][number][],
  })) as (WholeAnswer & {
    tokens: WholeAnswer['tokens'][number][];
    parts: WholeAnswer['parts'][number][];
  })[];
  send?.(format.opening());
  for await (const { choice, event } of events) {
    const answer = answers[choice]!;
    if (event.kind === 'error') throw new GraftError(event.error);
    if (event.kind === 'aborted')
      throw new GraftError({ code: 'closed', message: 'The answer was cancelled.' });
    if (event.kind === 'prompt') answer.prompt = event.tokens;
    if (event.kind === 'tokens') {
      answer.text += event.text;
      answer.tokens.push(...event.tokens);
      answer.parts.push(event);
    }
    if (event.kind === 'prompt' || event.kind === 'tokens') send?.(format.piece(choice, event));
    if (event.kind !== 'end') continue;
    answer.finishReason = event.finishReason;
    usage.add(choice, event);
    send?.(format.closing(choice, event.finishReason, event.stop));
  }
  return answers;
}

/** @throws GraftError */
function readRequest(body: Record<string, unknown>): ChatCompletionRequest {
  const parsed = parseChatCompletion(body, { strict: true });
  if (!parsed.ok) throw new GraftError(parsed.error);
  return parsed.value.request;
}
