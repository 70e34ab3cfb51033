/** What adapters, rooms, tenants and bases are called. */
import { z } from 'zod';
import { MAX_NAME_LENGTH, MAX_NAME_SEGMENT, MAX_NAME_SEGMENTS } from './limits.ts';

/** First segments that routes and the base model own. */
export const RESERVED_FIRST_SEGMENTS: readonly string[] = ['base', 'admin', 'v1'];

/** @returns why `name` is not a legal adapter name, or null when it is. */
export function nameProblem(name: string): string | null {
  if (name.length === 0) return 'a name must not be empty';
  if (name.length > MAX_NAME_LENGTH)
    return `a name has at most ${MAX_NAME_LENGTH} characters, this one has ${name.length}`;
  const segments = name.split('/');
  if (segments.length > MAX_NAME_SEGMENTS)
    return `a name has at most ${MAX_NAME_SEGMENTS} segments, this one has ${segments.length}`;
  for (const segment of segments) {
    if (segment.length === 0) return 'a name has no empty segments (no leading, trailing or double slash)';
    if (segment.length > MAX_NAME_SEGMENT)
      return `a segment of a name has at most ${MAX_NAME_SEGMENT} characters`;
    if (segment === '.' || segment === '..') return '"." and ".." are not allowed as segments of a name';
    if (!/^[a-z0-9._-]+$/.test(segment)) return 'a name is made of a-z, 0-9, ".", "_", "-" and "/" only';
  }
  if (RESERVED_FIRST_SEGMENTS.includes(segments[0] as string))
    return `names may not begin with "${segments[0]}"`;
  return null;
}

/** An adapter's name: a path such as `medicine/cardiology`. */
export const AdapterName = z.string().superRefine((name, context) => {
  const problem = nameProblem(name);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

/**
 * A scope is a name, `<path>/**` (the path itself and all below it: a child cannot be used without its parents) or
 * `**`.
 * @returns why `scope` is none of these, or null.
 */
export function scopeProblem(scope: string): string | null {
  if (scope === '**') return null;
  const path = scope.endsWith('/**') ? scope.slice(0, -3) : scope;
  const problem = nameProblem(path);
  return problem === null ? null : `a scope is a name, "<name>/**" or "**": ${problem}`;
}

/** What a key, or a grant, opens. */
export const Scope = z.string().superRefine((scope, context) => {
  const problem = scopeProblem(scope);
  if (problem !== null) context.addIssue({ code: 'custom', message: problem });
});

/** Who owns names and keys. */
export const Tenant = z
  .string()
  .regex(/^[a-z0-9._-]{1,64}$/, 'must be a tenant: 1 to 64 of a-z, 0-9, ".", "_", "-"');

/** Can a grant be for it: a tenant, or `*`, everybody? */
export const isHolder = (text: string): boolean => text === '*' || Tenant.safeParse(text).success;

/** Id of a base model, as {@link baseIdOf} makes it. */
export const BaseId = z
  .string()
  .regex(/^[a-z0-9._-]{1,128}$/, 'must be the id of a base: a-z, 0-9, ".", "_", "-"');

/** The id under which a base model is served: the last part of a hub id, in lower case. */
export function baseIdOf(hubId: string): string {
  return (hubId.split('/').at(-1) ?? hubId).toLowerCase().replace(/[^a-z0-9._-]+/g, '-');
}

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
