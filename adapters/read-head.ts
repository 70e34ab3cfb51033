/**
 * What an edge reads of a canonical file: its head, in any chunks, and whether that fits a base. No tensor is looked at;
 * that is the origin's part, which runs them. The only file of the toolkit that a worker is bundled with.
 */
import { AdapterFormatError } from './errors.ts';
import { parseCanonicalHead, type CanonicalHead } from './format/canonical-head.ts';
import { readHeaderLength } from './format/safetensors.ts';

export { checkBase, type ShapedModule } from './check-base.ts';
export { AdapterFormatError, printable } from './errors.ts';
export type { CanonicalHead } from './format/canonical-head.ts';

/** The length field in front of the header. */
const LENGTH_BYTES = 8;

export interface HeadReader {
  /** @returns true when nothing that follows is looked at. */
  push(chunk: Uint8Array): boolean;
  /** Call it when `push` said so, or nothing follows. @throws AdapterFormatError */
  head(): CanonicalHead;
}

/** @param params.fileBytes of the whole file. @param params.maxHeaderBytes larger headers are refused unread. */
export function createHeadReader(params: { fileBytes: number; maxHeaderBytes: number }): HeadReader {
  const { fileBytes, maxHeaderBytes } = params;
  let prefix = new Uint8Array(LENGTH_BYTES);
  let filled = 0;
  let head: CanonicalHead | null = null;
  let problem: AdapterFormatError | null = null;

  /** The prefix is full: with the length field alone it grows by the header, which is parsed when it is there. */
  function grow(): void {
    if (prefix.length > LENGTH_BYTES) {
      head = parseCanonicalHead({ prefix, fileBytes });
      return;
    }
    const bytes = readHeaderLength(prefix);
    if (bytes > maxHeaderBytes)
      throw new AdapterFormatError({
        code: 'header_too_large',
        message: `The header has ${bytes} bytes, the server reads at most ${maxHeaderBytes}. Train fewer modules.`,
      });
    if (bytes > fileBytes - LENGTH_BYTES)
      throw new AdapterFormatError({
        code: 'truncated_file',
        message: `The header needs ${LENGTH_BYTES + bytes} bytes, the file has ${fileBytes}: it is cut off.`,
      });
    const whole = new Uint8Array(LENGTH_BYTES + bytes);
    whole.set(prefix);
    prefix = whole;
  }

  return {
    push(chunk) {
      let rest = chunk;
      try {
        while (head === null && problem === null && rest.length > 0) {
          const some = rest.subarray(0, prefix.length - filled);
          prefix.set(some, filled);
          filled += some.length;
          rest = rest.subarray(some.length);
          if (filled === prefix.length) grow();
        }
      } catch (error) {
        if (!(error instanceof AdapterFormatError)) throw error;
        problem = error;
      }
      return head !== null || problem !== null;
    },
    head() {
      if (head !== null) return head;
      throw (
        problem ??
        new AdapterFormatError({
          code: 'truncated_file',
          message: `The file has ${fileBytes} bytes: too short for safetensors.`,
        })
      );
    },
  };
}
