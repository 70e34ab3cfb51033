import { randomUUID } from 'node:crypto';
import { MAX_REQUEST_ID } from '../../protocol/index.ts';

const SAFE = new RegExp(`^[A-Za-z0-9._:=-]{1,${MAX_REQUEST_ID}}$`);

/** The edge's or client's id when it is short and plain (it goes into logs and headers), else a new one. */
export function requestIdOf(header: string | null | undefined): string {
  return header != null && SAFE.test(header) ? header : `req_${randomUUID().replaceAll('-', '')}`;
}
