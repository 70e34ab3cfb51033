/** What each measurement of a cliff gets. */
export interface CliffRun {
  base: string;
  /** An empty folder. */
  work: string;
  signal: AbortSignal;
  note: (text: string) => void;
}
