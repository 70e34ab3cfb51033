let steady = false;

/**
 * Miniflare's synchronous calls (`prepare`, `bind` of its D1) wait for another thread, which sets a flag and then
 * notifies. On a busy machine that thread is stopped in between: the notification comes to the next call, which wakes
 * with the flag unset, finds no answer and fails with `false == true`, and so does every call after it (seen in
 * miniflare 4.20260426.0, `SynchronousFetcher.fetch`). From this call on `Atomics.wait` goes on waiting until the value
 * has changed; what a caller gives as its time-out begins anew with each notification that changed nothing.
 */
export function waitForChange(): void {
  if (steady) return;
  steady = true;
  const wait = Atomics.wait.bind(Atomics);
  Atomics.wait = ((array: Int32Array, index: number, value: number, timeout?: number) => {
    for (let early = false; ; early = true) {
      const woken = wait(array, index, value, timeout);
      // It changed after an early notification, and before it was waited for again.
      if (woken === 'not-equal' && early) return 'ok';
      if (woken !== 'ok' || Atomics.load(array, index) !== value) return woken;
    }
  }) as typeof Atomics.wait;
}
