import type { Metafile } from 'esbuild';

export function buildBrowser(outdir: string, what?: { page?: boolean; runtime?: boolean }): Promise<Metafile>;
