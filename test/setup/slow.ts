/**
 * Every time limit of the tests comes from here. None is needed while all goes well: tests wait for events, and a limit
 * only ends what hangs.
 */

/** Stretches every limit: `GRAFT_TEST_SLOW=4 npm test` on a machine that is slower or busier than most. */
export const SLOW = Number(process.env['GRAFT_TEST_SLOW'] ?? 1);
if (!(SLOW > 0))
  throw new Error(`GRAFT_TEST_SLOW must be a number above 0, not '${process.env['GRAFT_TEST_SLOW']}'`);

/** Milliseconds of a test or hook. */
export const TEST_MS = 300_000 * SLOW;
/** Milliseconds of one wait (`vi.waitFor`, `expect.poll`): shorter, so that what was waited for is named. */
export const WAIT_MS = 200_000 * SLOW;
/**
 * Milliseconds after which the part under test gives up what a test lets hang. They do go by, so there are few of them; what
 * is healthy takes less on a busy machine, too.
 */
export const HANG_MS = 3_000 * SLOW;
