/** Ends a run: an invariant of docs/internals/simulation.md does not hold. */
export type Fail = (invariant: string, what: string) => void;
