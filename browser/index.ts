/**
 * Inference in the user's own browser: the base is stored once in the page's private file system, adapters come by name
 * from the edge, and answers are made by the engine that origins run, in a worker: on the
 * GPU by WebGPU where there is one, else in WebAssembly.
 */
export { GraftError, type BrowserErrorCode } from './errors.ts';
export type { Progress, Serving, WantedDevice, WantedPrecision } from './messages.ts';
export { removeStored, storedBytes } from './stored.ts';
export { open, type Model, type OpenOptions } from './open.ts';
export type { AskOptions, Message } from './model.ts';
