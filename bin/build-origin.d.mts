import type { Metafile } from 'esbuild';

export function buildOrigin(dist: string): Promise<{ origin: Metafile; worker: Metafile }>;
