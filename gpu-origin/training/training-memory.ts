/** Memory of a training, estimated from the base's shape before it begins. Pure. */
import type { BaseModule } from '../../protocol/origin-wire.ts';
import { isTrained, type TrainingRequest } from '../../protocol/training.ts';
import type { ExpertSizes } from '../model/experts.ts';
import { expertRows } from './experts.ts';
import { UNPACKED_BYTES } from './frozen-base.ts';
import { HEAD_ROWS, KEPT_BYTES, MAX_BATCH_TOKENS, SCORE_BYTES } from './trainer.ts';

const F32 = 4;
/** Node and ONNX Runtime, bytes, and the tokenizer per token: measured with SmolLM2-135M and a shape of 1B. */
const PROCESS_BYTES = 300e6;
const TOKENIZER_BYTES = 2_000;
/** Copies of a trained number: itself, its gradient, AdamW's two moments, as the graphs read it; a checkpoint has three. */
const PARAMETER_COPIES = 8;
/** Of the rows' file, as text and as tokens. */
const ROWS_COPIES = 10;
/** Scores of attention, their probabilities and their gradient. */
const SCORE_COPIES = 3;
/**
 * Values and gradients of linear attention in memory at once, in multiples of what its heads return: measured with
 * Qwen3.5-0.8B's shape.
 */
const STATE_COPIES = 60;
/** What forward keeps, beside each linear's outputs: outputs of norms. */
const KEPT_SHARE = 1.15;
/** Numbers of a layer's experts in memory, by row: in hidden's width and in theirs. */
const EXPERT_ROW_COPIES = { hidden: 4, ffn: 6 };
/** Rows of a step when the program chooses. */
const DEFAULT_BATCH = 8;

/**
 * Estimates the largest resident memory that the settings allow, bytes. Trainings took 0.75 to 0.9 of
 * it with rows of the full length, 0.4 to 0.6 with shorter ones.
 * @param given.modules of the base; only those of its layers count. @param given.vocab tokens of the base.
 * @param given.heads of attention; absent = not known. @param given.experts default: none. @param given.rowsBytes the rows'
 * file.
 */
export function trainingMemory(given: {
  modules: readonly BaseModule[];
  vocab: number;
  heads: number | undefined;
  experts?: ExpertSizes | null;
  weights: 'int8' | 'f32';
  request: TrainingRequest;
  rowsBytes: number;
}): number {
  const { vocab, weights, request, rowsBytes, heads = 1, experts = null } = given;
  const modules = given.modules.filter(({ name }) => name.includes('.layers.'));
  const hidden = modules[0]?.in ?? 0;
  const ofExperts = experts === null ? 0 : 3 * experts.layers * experts.count * hidden * experts.ffn;
  const linears = modules.reduce((sum, module) => sum + module.in * module.out, ofExperts);
  const head = vocab * hidden;
  const unpacked = F32 * (linears + head);
  const packed = weights === 'int8' && unpacked > UNPACKED_BYTES;
  // One of the base's is cast at a time, and read for it: the head is the largest.
  const frozen = packed ? linears + head + 2 * F32 * head : unpacked;

  // vLLM's bases list the linears of experts.
  const trained = modules.filter(
    ({ name }) => isTrained(name, request.targets) && !name.includes('.experts.'),
  );
  const parameters = trained.reduce((sum, module) => sum + request.rank * (module.in + module.out), 0);

  const sequences = request.method === 'dpo' ? 2 : 1;
  const wanted = (request.batch ?? DEFAULT_BATCH) * sequences * request.max_length;
  const tokens = Math.min(wanted, Math.max(MAX_BATCH_TOKENS, request.max_length), rowsBytes);
  const ofChosen = experts === null ? 0 : experts.layers * (2 * experts.chosen * experts.ffn + experts.count);
  const outputs = modules.reduce((sum, module) => sum + module.out, ofChosen);
  const kept = Math.min(KEPT_BYTES, tokens * outputs * F32 * KEPT_SHARE);
  const scores = Math.min(SCORE_BYTES, heads * tokens * Math.min(request.max_length, rowsBytes) * F32);
  const { hidden: wide, ffn: narrow } = EXPERT_ROW_COPIES;
  const sorted =
    experts === null ? 0 : expertRows(experts, tokens) * (wide * hidden + narrow * experts.ffn) * F32;
  const read = Math.max(0, ...modules.map(({ name, out }) => (name.endsWith('.in_proj_z') ? out : 0)));
  const states = STATE_COPIES * tokens * read * F32;
  const logits = 2 * Math.min(HEAD_ROWS, tokens) * vocab * F32;

  return Math.round(
    PROCESS_BYTES +
      vocab * TOKENIZER_BYTES +
      frozen +
      parameters * F32 * PARAMETER_COPIES +
      kept +
      // Layers follow each other.
      Math.max(SCORE_COPIES * scores, states) +
      sorted +
      logits +
      ROWS_COPIES * rowsBytes,
  );
}
