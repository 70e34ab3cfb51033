import type { BaseInfo } from '../protocol/index.ts';
import { AdapterFormatError } from './errors.ts';
import { parseCanonicalHead, type CanonicalHead } from './format/canonical.ts';
import { maxMagnitude } from './format/dtype.ts';
import { readHeaderLength } from './format/safetensors.ts';
import { checkBase, checkMagnitudes } from './validate-adapter.ts';

/** The length field in front of the header. */
const LENGTH_BYTES = 8;

/** What has been read of a file so far. */
export interface StreamCheck {
  /** @returns true when nothing that follows can change the answer. */
  push(chunk: Uint8Array): boolean;
  /** The head, once it has been read and is good. */
  head(): CanonicalHead | null;
  /** The problems, most basic first; empty = it may be published for this base. Call it when all has been read. */
  problems(): AdapterFormatError[];
}

/**
 * The checks of `validateAdapter` on a canonical file that comes by in chunks: memory for its header, not for its
 * tensors. A header that is refused ends it before the rest is read.
 * @param params.fileBytes of the whole file. @param params.maxHeaderBytes larger headers are refused unread.
 */
export function checkStream(params: {
  fileBytes: number;
  maxHeaderBytes: number;
  base: BaseInfo;
}): StreamCheck {
  const { fileBytes, maxHeaderBytes, base } = params;
  let prefix = new Uint8Array(LENGTH_BYTES);
  let filled = 0;
  let head: CanonicalHead | null = null;
  let values: ((chunk: Uint8Array) => void) | null = null;
  let problems: AdapterFormatError[] = [];
  const largest = new Map<string, { a: number; b: number }>();

  /** Fills the prefix. @returns the bytes that follow it. */
  function readPrefix(chunk: Uint8Array): Uint8Array {
    let rest = chunk;
    while (head === null && rest.length > 0) {
      const some = rest.subarray(0, prefix.length - filled);
      prefix.set(some, filled);
      filled += some.length;
      rest = rest.subarray(some.length);
      if (filled < prefix.length) break;
      if (prefix.length === LENGTH_BYTES) {
        const bytes = readHeaderLength(prefix);
        if (bytes > Math.min(maxHeaderBytes, fileBytes - LENGTH_BYTES)) throw tooLong(bytes);
        const whole = new Uint8Array(LENGTH_BYTES + bytes);
        whole.set(prefix);
        prefix = whole;
      } else {
        head = parseCanonicalHead({ prefix, fileBytes });
        prefix = new Uint8Array(0);
        problems = checkBase(head, base);
        values = scanValues(head, largest);
      }
    }
    return rest;
  }

  const tooLong = (bytes: number) =>
    new AdapterFormatError({
      code: bytes > maxHeaderBytes ? 'header_too_large' : 'truncated_file',
      message:
        bytes > maxHeaderBytes
          ? `The header would have ${bytes} bytes, at most ${maxHeaderBytes} are read here.`
          : `The header needs ${LENGTH_BYTES + bytes} bytes, the file has ${fileBytes}: it is cut off.`,
    });

  return {
    push(chunk) {
      try {
        const rest = readPrefix(chunk);
        if (problems.length === 0 && rest.length > 0) values?.(rest);
      } catch (error) {
        if (!(error instanceof AdapterFormatError)) throw error;
        problems = [error];
      }
      return problems.length > 0;
    },
    head: () => head,
    problems() {
      if (problems.length > 0) return problems;
      if (head === null)
        return [
          new AdapterFormatError({
            code: 'truncated_file',
            message: `The file has ${fileBytes} bytes: too short for safetensors.`,
          }),
        ];
      return checkMagnitudes(head.modules, ({ name }) => largest.get(name) ?? { a: 0, b: 0 });
    },
  };
}

/** @returns takes the tensors' bytes, in any chunks, and keeps the largest magnitude of each. */
function scanValues(
  { tensors }: CanonicalHead,
  largest: Map<string, { a: number; b: number }>,
): (chunk: Uint8Array) => void {
  let at = 0;
  let done = 0;
  /** Bytes of an element that a chunk cut through. */
  let cut = new Uint8Array(0);
  return (chunk) => {
    let rest = chunk;
    for (let tensor = tensors[at]; tensor !== undefined && rest.length > 0; tensor = tensors[at]) {
      const some = rest.subarray(0, tensor.end - tensor.begin - done);
      rest = rest.subarray(some.length);
      done += some.length;
      const bytes = cut.length === 0 ? some : joined(cut, some);
      const whole = bytes.length - (bytes.length % (tensor.dtype === 'F32' ? 4 : 2));
      cut = bytes.slice(whole);
      const found = largest.get(tensor.module) ?? { a: 0, b: 0 };
      const magnitude = maxMagnitude({ dtype: tensor.dtype, shape: [], data: bytes.subarray(0, whole) });
      // NaN stays NaN.
      found[tensor.side] = Math.max(found[tensor.side], magnitude);
      largest.set(tensor.module, found);
      if (done === tensor.end - tensor.begin) [at, done] = [at + 1, 0];
    }
  };
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(first.length + second.length);
  both.set(first);
  both.set(second, first.length);
  return both;
}
