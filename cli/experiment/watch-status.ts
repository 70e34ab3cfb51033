/** Between two looks at the server, ms. It looks at an experiment each minute, a person more often. */
const REFRESH_MS = 5_000;
/** Home, and clear what is below; what stood before stays in the scrollback. */
const CLEAR = '\u001b[H\u001b[2J';

/**
 * Shows `look()` again and again, until `signal` fires; a look that is on its way is not waited for then.
 * @param screen.isTTY redraws in place; elsewhere the texts follow each other.
 * @param sleep resolves early when `signal` fires. @throws what `look` throws.
 */
export async function watchStatus(params: {
  look: () => Promise<string>;
  screen: { write(text: string): unknown; isTTY?: boolean };
  signal: AbortSignal;
  sleep: (ms: number) => Promise<void>;
}): Promise<void> {
  const { look, screen, signal, sleep } = params;
  const stopped = new Promise<null>((resolve) =>
    signal.addEventListener('abort', () => resolve(null), { once: true }),
  );
  while (!signal.aborted) {
    const text = await Promise.race([look(), stopped]);
    if (text === null) return;
    screen.write(screen.isTTY === true ? `${CLEAR}${text}\n` : `${text}\n\n`);
    await sleep(REFRESH_MS);
  }
}
