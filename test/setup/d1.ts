/** For suites that run on Miniflare's D1. */
import { afterAll } from 'vitest';
import { closeDatabases } from '../worker/platform/database.ts';
import { waitForChange } from '../../cli/local/keep-process-ours.ts';

waitForChange();
afterAll(closeDatabases);
