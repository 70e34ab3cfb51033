import { baseIdOf } from '../protocol/names.ts';
import { AdapterFormatError, printable } from './errors.ts';

/** `name` or `owner/name`, as the hub writes ids; anything else in the field is somebody's local path. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*(?:\/[\w.-]+)?$/;
const MAX_HUB_ID = 256;
/** Last parts of the names under which communities publish converted or quantised copies of a model. */
const COPY_PARTS: ReadonlySet<string> = new Set([
  ...['2bit', '3bit', '4bit', '5bit', '6bit', '8bit', 'int4', 'int8', 'fp8', 'mxfp4', 'nf4'],
  ...['q2', 'q3', 'q4', 'q5', 'q6', 'q8', 'bf16', 'fp16', 'f16', 'fp32', 'f32'],
  ...['mlx', 'dwq', 'bnb', 'unsloth', 'gptq', 'awq', 'gguf', 'quantized'],
]);

/** @returns the id of the model that `id` is a copy of, by its name; `id` itself when it is none. */
function originalOf(id: string): string {
  const parts = id.split('-');
  while (parts.length > 1 && COPY_PARTS.has(parts.at(-1) as string)) parts.pop();
  return parts.join('-');
}

/**
 * Whether the base that an adapter names is the one it is packed for.
 * @param params.baseModel as the adapter's files say it.
 * @param params.path file that says it, for the error.
 * @returns a warning, or null.
 * @throws AdapterFormatError `base_mismatch`
 */
export function checkBaseName(params: {
  baseModel: string | null;
  baseId: string;
  path?: string | undefined;
  subject: string;
}): string | null {
  const { baseModel, baseId } = params;
  if (baseModel === null || baseModel === '')
    return `The adapter does not say which base it is for; taken as ${baseId}.`;
  const id = baseIdOf(baseModel);
  if (id === baseId) return null;
  const shown = printable(baseModel);
  if (baseModel.length > MAX_HUB_ID || !HUB_ID.test(baseModel))
    return `The adapter was trained on the local path "${shown}"; taken as ${baseId}.`;
  if (originalOf(id) === originalOf(baseId))
    return (
      `The adapter was trained on ${shown}, by its name a converted or quantised copy of the same model as ${baseId}; ` +
      `taken as that. What it learned to correct in the copy's rounding it adds here too.`
    );
  throw new AdapterFormatError({
    code: 'base_mismatch',
    message:
      `The adapter is for ${shown}, this base is ${baseId}. If they are the same model, ` +
      `set ${params.subject} to its name.`,
    path: params.path,
    subject: params.subject,
  });
}
