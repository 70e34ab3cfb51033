/**
 * What the library does in every runtime, the same way: packs, reads the other formats, sums, compares, refuses.
 * Takes the library as a parameter and imports types only, so that it can be bundled with the built package.
 */
import type * as Library from '../../adapters/index.ts';

type Adapters = typeof Library;
type LoraModule = Library.LoraModule;
type Tensor = Library.Tensor;

/** Files of `examples/adapters`, by folder. */
export type ExampleFiles = Record<'dr-lee' | 'intent-v1', { weights: Uint8Array; configJson: string }>;

export interface ScenarioReport {
  digest: string;
  bytes: number;
  /** Digests of what other formats hold, packed again. */
  mlxDigest: string;
  ggufDigest: string;
  peftDigest: string;
  /** sha256 of the tensors of 0.5 x the first adapter + the second. */
  sumDigest: string;
  cosine: number | null;
  /** What cutting the sum down to rank 4 loses, to six digits: another runtime may round its roots otherwise. */
  truncationError: string;
  norm: number;
  refusal: string;
}

/** SmolLM2-135M's. */
const ATTENTION = { heads: 9, kvHeads: 3 };
const BASE_ID = 'smollm2-135m-instruct';

function transpose({ dtype, shape, data }: Tensor): Tensor {
  const [rows, columns] = shape as [number, number];
  const Elements = dtype === 'F32' ? Uint32Array : Uint16Array;
  const from = new Elements(data.slice().buffer);
  const to = new Elements(from.length);
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) to[column * rows + row] = from[row * columns + column]!;
  return { dtype, shape: [columns, rows], data: new Uint8Array(to.buffer) };
}

/** The same adapter as mlx-lm saves it; the modules must share one rank and one scale. */
function mlxFiles(library: Adapters, modules: readonly LoraModule[]) {
  const tensors = new Map<string, Tensor>();
  for (const { name, a, b } of modules) {
    tensors.set(`${name}.lora_a`, transpose(a));
    tensors.set(`${name}.lora_b`, transpose(b));
  }
  const { rank, scale } = modules[0]!;
  return {
    weights: library.writeSafetensors({ tensors }),
    configJson: JSON.stringify({
      fine_tune_type: 'lora',
      num_layers: 30,
      lora_parameters: { rank, scale, dropout: 0 },
      model: 'HuggingFaceTB/SmolLM2-135M-Instruct',
    }),
  };
}

async function hash(bytes: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes.slice()));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export async function runScenario(library: Adapters, files: ExampleFiles): Promise<ScenarioReport> {
  const pack = (adapter: Library.AdapterFiles) =>
    library.packAdapter({ files: adapter, attention: ATTENTION, baseId: BASE_ID, parentChainId: null });
  const first = await pack(files['intent-v1']);
  const second = await pack(files['dr-lee']);
  const mlx = await pack(mlxFiles(library, first.modules));
  const gguf = library.writeGgufAdapter({ modules: first.modules, attention: ATTENTION, baseModel: BASE_ID });
  const peft = library.writePeftAdapter({ modules: second.modules, baseModel: BASE_ID });
  const sum = library.sumAdapters([
    { modules: first.modules, scale: 0.5 },
    { modules: second.modules, scale: 1 },
  ]);
  const { cosine } = library.diffAdapters(second.modules, sum);
  let refusal = 'none';
  try {
    library.readAdapter({ weights: files['dr-lee'].weights.subarray(0, 1_000), configJson: null });
  } catch (error) {
    if (!(error instanceof library.AdapterFormatError)) throw error;
    refusal = error.code;
  }
  return {
    digest: first.digest,
    bytes: first.bytes.byteLength,
    mlxDigest: mlx.digest,
    ggufDigest: (await pack({ weights: gguf, configJson: null })).digest,
    peftDigest: (await pack({ weights: peft.safetensors, configJson: peft.configJson })).digest,
    sumDigest: await hash(
      library.writeSafetensors({
        tensors: new Map(
          sum.flatMap(({ name, a, b }) => [
            [`${name}.a`, a],
            [`${name}.b`, b],
          ]),
        ),
      }),
    ),
    cosine,
    truncationError: library.truncateAdapter(sum, 4).relativeError.toPrecision(6),
    norm: library.deltaNorm(sum[0]!),
    refusal,
  };
}
