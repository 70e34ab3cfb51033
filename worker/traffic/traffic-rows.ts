/** How rows of traffic are read. */
import { z } from 'zod';
import { RequestView } from '../../protocol/index.ts';
import { BUCKETS } from './histogram.ts';
import type { TrafficPoint } from './ports.ts';

const buckets = (letter: string): string[] => Array.from({ length: BUCKETS }, (_, i) => `${letter}${i}`);
const TTFT = buckets('t');
const DURATION = buckets('d');
/** Columns that are added up. */
export const SUMS = ['requests', 'prompt_tokens', 'completion_tokens', ...TTFT, ...DURATION];

export interface ChunkRow {
  tenant: string;
  count: number;
  left_out: number;
  requests: string;
}

export const ChunkRequests = z.array(RequestView);

/** With the sums beside it, by the names of their columns. */
export type PointRow = Record<string, number> & { begins: number; status: number } & { code: unknown };

export const readPoint = (row: PointRow): TrafficPoint => ({
  at: row.begins,
  status: row.status,
  code: String(row.code),
  requests: row['requests'] ?? 0,
  promptTokens: row['prompt_tokens'] ?? 0,
  completionTokens: row['completion_tokens'] ?? 0,
  ttft: TTFT.map((column) => row[column] ?? 0),
  duration: DURATION.map((column) => row[column] ?? 0),
});
