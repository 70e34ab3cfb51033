/**
 * What the admin API answers, one schema an answer; those of experiments are in `../experiment-api.ts`. Clients leave
 * out fields that they do not know, so that an edge may be newer than they are.
 */
export * from './blobs.ts';
export * from './changes.ts';
export * from './grants.ts';
export * from './keys.ts';
export * from './names.ts';
export * from './origins.ts';
export * from './pins.ts';
export * from './rooms.ts';
export * from './tenants.ts';
export * from './upkeep.ts';
export * from './usage.ts';
export * from './verify.ts';
export * from './versions.ts';
