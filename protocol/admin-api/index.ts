/**
 * The admin API: what it takes and what it answers, one schema each, and the table of its operations; what experiments
 * take and answer is in `../experiment-api.ts`. Clients leave out fields that they do not know, so that an edge may be
 * newer than they are.
 */
export * from './backup.ts';
export * from './blobs.ts';
export * from './names.ts';
export * from './changes.ts';
export * from './erasures.ts';
export * from './experiments.ts';
export * from './grants.ts';
export * from './history.ts';
export * from './keys.ts';
export * from './limits.ts';
export * from './operations.ts';
export * from './operation.ts';
export * from './origins.ts';
export * from './versions.ts';
export * from './prompts.ts';
export * from './removals.ts';
export * from './rooms.ts';
export * from './tenants.ts';
export * from './traffic.ts';
export * from './upkeep.ts';
export * from './usage.ts';
export * from './verify.ts';
