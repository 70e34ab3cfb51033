import { on } from 'node:events';

/**
 * What is typed on a terminal, as it arrives, in raw mode: without Enter, not shown, and Ctrl-C is a character. Not
 * `for await` over the input itself, which destroys it at the end: then nobody could leave raw mode before the process
 * is gone, and Ctrl-C would do nothing meanwhile.
 * @throws the signal's reason once it fires.
 */
export async function* readRaw(input: NodeJS.ReadStream, signal?: AbortSignal): AsyncGenerator<string> {
  signal?.throwIfAborted();
  input.setRawMode(true);
  try {
    const pieces = on(input, 'data', { close: ['end', 'close'], ...(signal && { signal }) });
    for await (const [piece] of pieces) yield String(piece);
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  } finally {
    input.setRawMode(false);
    // Nothing is read any more, so that the process may end.
    input.pause();
  }
}
