import { describe } from 'vitest';
import { startLocalLane } from '../../../gpu-origin/grammar/grammar-core.ts';
import { startThreadLane } from '../../../gpu-origin/grammar/thread-lane.ts';
import { grammarsContract } from '../../contracts/grammars.ts';

describe('grammars in this thread', () => grammarsContract(startLocalLane));
describe('grammars in threads of their own', () => grammarsContract(startThreadLane));
