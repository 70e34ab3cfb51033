import { Engine } from '../../gpu-origin/engine/engine.ts';
import { systemClock } from '../../gpu-origin/runtime/device.ts';
import { buildGraphs } from '../../gpu-origin/model/build-graphs.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { GRAPH_KINDS } from '../../gpu-origin/model/base-model.ts';
import { loadBase } from '../../gpu-origin/model/load-base.ts';
import { FINAL_NORM } from '../../gpu-origin/model/prepare-weights.ts';
import { loadTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { PromptQueue } from '../../gpu-origin/prompts/prompt.ts';
import { engineTokens } from '../../gpu-origin/model/tokenizer.ts';
import { readGains } from '../../gpu-origin/runtime/adapter-batch.ts';
import { GraphSessions } from '../../gpu-origin/runtime/bindings.ts';
import { openDevice } from '../../gpu-origin/runtime/open-device.ts';
import { OrtRunner } from '../../gpu-origin/runtime/ort-runner.ts';
import { chooseExactInt8 } from '../../gpu-origin/runtime/self-test.ts';
import { openGrammars, prepareGrammar } from '../../browser/worker/grammar-chunk.ts';
import type { EngineHere } from '../../browser/worker/in-browser-engine.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';

/**
 * The same graphs in ONNX Runtime's native library: what the page's answers are compared with.
 * @param files of adapters, by digest.
 */
export async function openNative(
  basePath: string,
  cacheDir: string,
  info: BaseInfo,
  files: ReadonlyMap<string, Uint8Array<ArrayBuffer>>,
): Promise<EngineHere> {
  const { base, tokenizerSource } = await loadBase(basePath, undefined);
  const { context } = base.config;
  const options = { base, format: 'int8', context, rotate: true, embedding: 'int8', cacheDir } as const;
  const built = await buildGraphs({ ...options, onProgress: () => {} });
  const { device } = await openDevice({ provider: 'cpu', threads: 1 });
  // The page's weights are not limited.
  await chooseExactInt8(device, false);
  const runner = await OrtRunner.open({
    ...{ base: info, config: base.config, device, rotations: built.rotations, slots: 4, swapSlots: 0 },
    sessions: await GraphSessions.open({ device, built, kinds: GRAPH_KINDS, onProgress: () => {} }),
    gains: readGains(base),
    finalGain: base.tensor(FINAL_NORM, [base.config.hidden]),
  });
  base.close();
  const tokenizer = loadTokenizer(tokenizerSource);
  const grammars = openGrammars({ tokenizer, vocabSize: runner.vocabSize });
  const chatTemplate = createChatTemplate(tokenizer);
  const engine = new Engine({
    masks: grammars,
    ...{ runner, clock: systemClock, random: Math.random, maxQueue: 8, adapterBudgetBytes: 1e8 },
    source: {
      status: async (digest) => (files.has(digest) ? 'held' : 'missing'),
      read: async (digest) => files.get(digest) ?? null,
    },
    tokens: engineTokens(tokenizer),
    eosTokenIds: tokenizer.eosIds,
  });
  return {
    ...{
      engine,
      tokenizer,
      base: info,
      runtime: device.description,
      device: 'wasm',
      lost: new Promise(() => {}),
    },
    chatTemplate,
    held: {
      async prepare(request, caller) {
        const prepared = await prepareGrammar(request, { grammars, chatTemplate }, caller);
        if (!prepared.ok) throw new Error(prepared.error.message);
        return prepared.value;
      },
    },
    prompts: new PromptQueue(systemClock),
    async close() {
      await engine.close();
      await grammars.close();
      await runner.close();
    },
  };
}
