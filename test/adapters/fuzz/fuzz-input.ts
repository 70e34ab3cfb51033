/** One hostile adapter, and everything that the toolkit does with one. */
import {
  AdapterFormatError,
  checkValues,
  describeAdapter,
  diffAdapters,
  packAdapter,
  parseCanonical,
  readAdapter,
  sumAdapters,
  truncateAdapter,
  writeGgufAdapter,
  writePeftAdapter,
  type AdapterFiles,
  type AttentionShape,
  type ReadAdapter,
} from '../../../adapters/index.ts';
import { BASE_ID } from '../make-adapter.ts';
import { mutateBytes } from './mutate-bytes.ts';
import { mutateGguf } from './mutate-gguf.ts';
import { mutateConfig, mutateSafetensors } from './mutate-safetensors.ts';
import { createRandom } from './random.ts';
import { ATTENTION, SEED_FILES } from './seed-files.ts';

export interface FuzzInput extends AdapterFiles {
  /** The valid file that it was made from. */
  readonly from: string;
  readonly attention: AttentionShape | null;
  readonly dtype: 'keep' | 'BF16';
}

/** The input that a run with `seed` has at `index`: any one can be made again by itself. */
export function makeFuzzInput(seed: number, index: number): FuzzInput {
  const random = createRandom(seed, index);
  const source = random.pick(SEED_FILES);
  const where = random.below(10);
  let { weights, configJson, modelConfigJson = null } = source;
  if (where < 8)
    weights = source.kind === 'gguf' ? mutateGguf(weights, random) : mutateSafetensors(weights, random);
  if (where >= 6 && configJson !== null) configJson = mutateConfig(configJson, random);
  else if (random.chance(0.05)) configJson = random.pick(SEED_FILES).configJson;
  if (modelConfigJson !== null && random.chance(0.3)) modelConfigJson = mutateConfig(modelConfigJson, random);
  if (random.chance(0.2)) weights = mutateBytes(weights, random);
  return {
    from: source.name,
    weights,
    configJson,
    modelConfigJson,
    attention: random.chance(0.85)
      ? ATTENTION
      : random.pick([null, { heads: 1, kvHeads: 1 }, { heads: 7, kvHeads: 2 }]),
    dtype: random.chance(0.8) ? 'keep' : 'BF16',
  };
}

/** @returns the code of the refusal, or `accepted`. @throws what is not an AdapterFormatError: a bug. */
async function outcome(action: () => unknown): Promise<string> {
  try {
    await action();
    return 'accepted';
  } catch (error) {
    if (error instanceof AdapterFormatError) return error.code;
    throw error;
  }
}

function need(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/** Outside, single values may underflow or overflow when a scale is folded into them. */
const [LEAST_NORM, MOST_NORM] = [1e-12, 1e12];

function needSameDelta(modules: ReadAdapter['modules'], back: ReadAdapter, format: string): void {
  const { normA, normB, cosine } = diffAdapters(modules, back.modules);
  if (normA < LEAST_NORM || normA > MOST_NORM) return;
  need(
    Math.abs(normA - normB) <= 1e-4 * normA && cosine !== null && cosine > 0.9999,
    `written as ${format} and read again, the norm is ${normB}, not ${normA}, the cosine ${cosine}`,
  );
}

/**
 * Puts an input through every reader and, where it is accepted, through what works on modules.
 * @returns the code of packing's refusal, or `accepted`.
 * @throws anything but an AdapterFormatError, or when two ways to the same answer disagree: each is a bug.
 */
export async function runFuzzInput(input: FuzzInput): Promise<string> {
  const { attention, dtype } = input;
  await outcome(() => parseCanonical(input.weights));
  const read = await outcome(() => {
    const adapter = readAdapter(input, { attention });
    checkValues(adapter);
    describeAdapter({ read: adapter, bytes: input.weights.byteLength });
  });
  const params = { attention, baseId: BASE_ID, parentChainId: null, dtype };
  const packed = await outcome(async () => {
    const { bytes, modules, classifier } = await packAdapter({ files: input, ...params });
    const again = await packAdapter({ files: { weights: bytes, configJson: null }, ...params });
    need(same(bytes, again.bytes), 'packing a canonical file changed it');
    const checked = checkValues({ modules, classifier });
    need(checked.length === 0, `packing accepted values that are refused: ${checked[0]?.message ?? ''}`);
    await outcome(() => {
      const { safetensors, ...configs } = writePeftAdapter({ modules, classifier, baseModel: null });
      const back = readAdapter({ weights: safetensors, ...configs });
      needSameDelta(modules, back, 'PEFT');
      need(
        (classifier === undefined) === (back.classifier === undefined) &&
          (classifier === undefined || same(classifier.weight.data, back.classifier!.weight.data)) &&
          String(classifier?.labels) === String(back.classifier?.labels),
        'written as PEFT and read again, the classification head is another',
      );
    });
    await outcome(() => {
      const weights = writeGgufAdapter({ modules, attention, baseModel: null });
      needSameDelta(modules, readAdapter({ weights, configJson: null }, { attention }), 'GGUF');
    });
    await outcome(() => writeGgufAdapter({ modules, attention, baseModel: null, dtype: 'F16' }));
    await outcome(() => {
      const sum = sumAdapters([
        { modules, scale: 1 },
        { modules, scale: 0.5 },
      ]);
      const { relativeError } = truncateAdapter(sum, 1);
      need(relativeError >= 0 && relativeError <= 1, `the error of a truncation is ${relativeError}`);
    });
  });
  need(read === 'accepted' || packed === read, `reading says ${read}, packing ${packed}`);
  return packed;
}
