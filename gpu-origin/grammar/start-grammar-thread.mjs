// A thread has no loader of TypeScript unless it registers one.
import { register } from 'tsx/esm/api';

register();
await import('./grammar-thread.ts');
