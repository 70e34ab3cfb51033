import { describe } from 'vitest';
import { startLocalWorker } from '../../../gpu-origin/grammar/grammar-core.ts';
import { startThreadWorker } from '../../../gpu-origin/grammar/thread-worker.ts';
import { grammarsContract } from '../../contracts/grammars.ts';

describe('grammars in this thread', () => grammarsContract(startLocalWorker));
describe('grammars in threads of their own', () => grammarsContract(startThreadWorker));
