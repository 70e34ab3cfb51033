/** For tests that start a Miniflare of their own. */
import { waitForChange } from '../../cli/local/keep-process-ours.ts';

waitForChange();
