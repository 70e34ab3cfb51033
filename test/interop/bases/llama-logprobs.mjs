/**
 * Log-probabilities by llama.cpp, in float32 with float32 keys and values, as node-llama-cpp's own build of it computes
 * them. `node llama-logprobs.mjs MODULE TOKENS FILE.gguf …`: MODULE is node-llama-cpp's folder, TOKENS a JSON list; prints
 * for each file, by position, those of the first 16 tokens.
 */
import { pathToFileURL } from 'node:url';

const [module, tokens, ...files] = process.argv.slice(2);
const { getLlama } = await import(pathToFileURL(`${module}/dist/index.js`).href);
const prompt = JSON.parse(tokens);
const llama = await getLlama({ build: 'never', gpu: false, logLevel: 'error', skipDownload: true });
const every = { temperature: 1, topK: 0, topP: 1, minP: 0 };
const all = [];
for (const modelPath of files) {
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext({
    contextSize: 256,
    flashAttention: false,
    experimentalKvCacheKeyType: 'F32',
    experimentalKvCacheValueType: 'F32',
  });
  const input = prompt.map((token) => [token, { generateNext: { probabilities: true, options: every } }]);
  const answers = await context.getSequence().controlledEvaluate(input);
  all.push(
    answers.map(({ next }) =>
      Array.from({ length: 16 }, (_, token) => Math.log(next.probabilities.get(token))),
    ),
  );
  await context.dispose();
  await model.dispose();
}
// Its threads do not end by themselves.
process.stdout.write(JSON.stringify(all), () => process.exit(0));
