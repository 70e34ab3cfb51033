import type { BuildOptions } from 'esbuild';

export function workerBuild(root: string): BuildOptions & { write?: boolean };
