/** How commands print modules and numbers. */
import { megabytes, plainTable } from '../output.ts';

/** Digits that distinguish modules and still fit a column. */
const DIGITS = 4;

/** Layer 2 before layer 10. */
const natural = new Intl.Collator('en', { numeric: true });

/** @returns the modules in the order of the network. */
export const byLayer = <T extends { readonly name: string }>(modules: readonly T[]): T[] =>
  [...modules].sort((a, b) => natural.compare(a.name, b.name));

/** @returns such as `self_attn.q_proj`, the same for all layers. */
export const targetOf = (name: string): string => name.replace(/^.*\.layers\.\d+\./, '');

/** @returns the items by target, targets in the order of their first item. */
export function byTarget<T extends { readonly name: string }>(modules: readonly T[]): Map<string, T[]> {
  const targets = new Map<string, T[]>();
  for (const module of modules) {
    const target = targetOf(module.name);
    const items = targets.get(target);
    if (items === undefined) targets.set(target, [module]);
    else items.push(module);
  }
  return targets;
}

/** @returns at most 4 significant digits, never an exponent where a few zeros do. */
export const significant = (value: number): string => String(Number(value.toPrecision(DIGITS)));

const KILO = 1e3;
/** From here on megabytes have a digit before the point. */
const SMALL = 1e6;

/** @returns such as `466 B`, `71 kB`, `9.8 MB`. */
export const fileSize = (bytes: number): string =>
  bytes < KILO ? `${bytes} B` : bytes < SMALL ? `${Math.round(bytes / KILO)} kB` : megabytes(bytes);

/** @returns `8`, or `8 to 16`; `-` when there is nothing. */
export function range(values: readonly number[]): string {
  if (values.length === 0) return '-';
  const low = significant(values.reduce((a, b) => Math.min(a, b)));
  const high = significant(values.reduce((a, b) => Math.max(a, b)));
  return low === high ? low : `${low} to ${high}`;
}

/** @returns a table whose columns except the first are right-aligned. */
export function numberTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    rows.reduce((width, row) => Math.max(width, row[column]?.length ?? 0), title.length),
  );
  const aligned = (row: readonly string[]): string[] =>
    row.map((cell, column) => (column === 0 ? cell : cell.padStart(widths[column] ?? 0)));
  return plainTable(aligned(head), rows.map(aligned));
}

/** @returns lines `label   value`; null entries are left out. */
export function facts(entries: readonly (readonly [string, string | null])[]): string {
  const shown = entries.filter((entry): entry is readonly [string, string] => entry[1] !== null);
  const width = Math.max(...shown.map(([label]) => label.length));
  return shown.map(([label, value]) => `${label.padEnd(width)}  ${value}`).join('\n');
}

export const FORMAT_NAMES = {
  canonical: 'packed (canonical)',
  peft: 'PEFT',
  mlx: 'MLX',
  kohya: 'kohya',
  gguf: 'GGUF',
} as const;
