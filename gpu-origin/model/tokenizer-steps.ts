/**
 * Work cut into steps, so that whoever runs it can do other things in between: each `next()` handles about
 * {@link STEP_CHARACTERS} characters.
 */
export type Steps<T> = Generator<undefined, T, undefined>;

/** Characters handled in a step: 2 to 8 ms of the slowest text on a slow core. */
export const STEP_CHARACTERS = 4_096;

/** Runs all steps at once: for texts that are known to be short. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
