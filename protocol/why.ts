import { z } from 'zod';

/** Longest reason of a change, characters. */
const MAX_WHY = 500;

/** Why something is changed, in the words of who changes it; one line of the history. */
export const Why = z
  .string()
  .trim()
  .min(1)
  .max(MAX_WHY)
  .regex(/^\P{Cc}*$/u, 'must be one line of text');
