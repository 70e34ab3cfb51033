import { benchPrompt, PROMPT_WORDS } from './prompts.ts';
import { runRequest, type RequestResult } from './run-request.ts';
import type { Target } from './target.ts';

export interface Wave {
  /** Requests at once. */
  requests: number;
  /** Adapters they are spread over, request i with adapter i mod adapters; 0 = the base model. */
  adapters: number;
  /** New tokens of each request, exactly. */
  tokens: number;
  /** Words of each prompt, or of each turn of a chat; those of mixed-16 unless given. */
  words?: number;
  /** Turns of each request's chat, asked one after the other; unless given, a request is a single prompt. */
  turns?: number;
}

export interface WaveResult {
  /** Output tokens per second over the whole wave, prefill included. */
  tokensPerSecond: number;
  /** Milliseconds to the first token, one a request or turn, ascending. */
  ttftMs: number[];
  /** Tokens per second of a request after its first token, mean over the requests. */
  decodePerSecond: number;
  problems: string[];
}

/** All requests of a wave at once. @param round makes its prompts differ from those of other waves. */
export async function runWave(target: Target, wave: Wave, round: number): Promise<WaveResult> {
  const start = performance.now();
  const results = await askWave(target, wave, round);
  const seconds = (performance.now() - start) / 1000;
  const good = results.filter((result) => result.problem === null);
  const decode = good.map(({ firstMs, lastMs }) => ((wave.tokens - 1) * 1000) / (lastMs - firstMs));
  return {
    tokensPerSecond: (good.length * wave.tokens) / seconds,
    ttftMs: good.map((result) => result.firstMs).sort((a, b) => a - b),
    decodePerSecond: decode.reduce((sum, rate) => sum + rate, 0) / Math.max(1, decode.length),
    problems: results.flatMap((result) => (result.problem === null ? [] : [result.problem])),
  };
}

/** @returns the results of all requests and turns. */
export async function askWave(target: Target, wave: Wave, round: number): Promise<RequestResult[]> {
  const { words = PROMPT_WORDS, tokens, turns } = wave;
  const chat = async (index: number): Promise<RequestResult[]> => {
    const results: RequestResult[] = [];
    const adapter = wave.adapters === 0 ? null : index % wave.adapters;
    let prompt = '';
    for (let turn = 0; turn < (turns ?? 1); turn++) {
      prompt += benchPrompt(index, round + turn, words);
      const ask = { prompt, tokens, adapter, ...(turns === undefined ? {} : { chat: true }) };
      const result = await runRequest(target, ask);
      results.push(result);
      if (result.problem !== null) break;
      prompt += `${result.text}\n`;
    }
    return results;
  };
  return (await Promise.all(Array.from({ length: wave.requests }, (_, index) => chat(index)))).flat();
}
