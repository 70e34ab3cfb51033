/** One version of a name, for as long as it is wanted, whatever becomes of the name. */
import { z } from 'zod';
import { nameProblem } from './names.ts';

const isPinned = (text: string): boolean => {
  const at = text.lastIndexOf('@');
  return at > 0 && /^[1-9]\d{0,8}$/.test(text.slice(at + 1)) && nameProblem(text.slice(0, at)) === null;
};

/** `name@version`. */
export const PinnedAdapter = z.string().refine(isPinned, 'must be "<name>@<version>"');

/** A pinned adapter's name and version. @param adapter as {@link PinnedAdapter} has checked it. */
export function pinOf(adapter: string): { name: string; version: number } {
  const at = adapter.lastIndexOf('@');
  return { name: adapter.slice(0, at), version: Number(adapter.slice(at + 1)) };
}
