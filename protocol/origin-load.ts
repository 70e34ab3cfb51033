/**
 * What an origin says of itself with each answer to the edge: `x-graft-load: <rows running or waiting>/<rows that fit>`,
 * followed by `;draining` when it is going away.
 */
export const LOAD_HEADER = 'x-graft-load';
const FORM = /^(\d{1,6})\/(\d{1,6})(;draining)?$/;

export interface OriginLoad {
  /** Rows that run, wait for a slot, or wait for an adapter. */
  rows: number;
  /** Rows that run at once; at least 1. */
  slots: number;
  /** It will refuse requests soon. */
  draining: boolean;
}

export const writeLoad = ({ rows, slots, draining }: OriginLoad): string =>
  `${rows}/${slots}${draining ? ';draining' : ''}`;

/** @returns null for what is none. */
export function readLoad(header: string | null): OriginLoad | null {
  const match = FORM.exec(header ?? '');
  if (match === null || Number(match[2]) === 0) return null;
  return { rows: Number(match[1]), slots: Number(match[2]), draining: match[3] !== undefined };
}
