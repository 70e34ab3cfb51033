/** What an experiment will be able to tell, and when. */
import {
  planWords,
  progressWords,
  type ExperimentPlan,
  type ExperimentProgress,
} from '../../protocol/index.ts';
import { facts } from '../adapter-files/module-table.ts';
import { shareText } from './experiment-numbers.ts';

const WRITTEN = { count: String, share: shareText };

/** `graft experiment create`: what can be found, and what that rests on. */
export function outlookText(plan: ExperimentPlan): string {
  const words = planWords(plan, WRITTEN, '--expect-units says it');
  return facts([
    ['traffic', words.traffic],
    ['values', words.values],
    ['mean', words.mean],
    ['finds', words.finds],
  ]);
}

/** `graft experiment status`. */
export const progressText = (progress: ExperimentProgress): string => progressWords(progress, WRITTEN);
