import { chainId, type ChainEntry } from '../protocol/identity.ts';
import { AdapterFormatError, printable } from './errors.ts';
import type { CanonicalConfig } from './format/canonical-head.ts';
import type { CanonicalAdapter } from './format/canonical.ts';
import { toFloat32 } from './format/dtype.ts';
import { inFeatures, outFeatures } from './format/lora-module.ts';

/** A chain's whole delta for one linear layer: B A, nothing else to multiply. */
export interface ComposedModule {
  readonly name: string;
  /** Sum of the members' ranks. */
  readonly rank: number;
  readonly in: number;
  readonly out: number;
  /** `[rank, in]`, row-major. */
  readonly a: Float32Array<ArrayBuffer>;
  /** `[out, rank]`, row-major, scales folded in. */
  readonly b: Float32Array<ArrayBuffer>;
}

/**
 * Sum of scale_i * alpha_i / rank_i * B_i A_i over the chain, exactly: rows of A below each other, columns of B beside
 * each other. A member without a module adds nothing to it.
 * @param chain root first; `scale` is on top of each adapter's own alpha / rank.
 * @returns by module name, sorted.
 * @throws AdapterFormatError `shape_mismatch` when two members disagree about a layer's size.
 */
export function composeAdapter(
  chain: readonly { readonly adapter: CanonicalAdapter; readonly scale: number }[],
): Map<string, ComposedModule> {
  const members = new Map<string, { module: CanonicalAdapter['modules'][number]; factor: number }[]>();
  for (const { adapter, scale } of chain)
    for (const module of adapter.modules) {
      const list = members.get(module.name) ?? [];
      list.push({ module, factor: scale * module.scale });
      members.set(module.name, list);
    }
  const names = [...members.keys()].sort();
  return new Map(names.map((name) => [name, composeModule(name, members.get(name) ?? [])]));
}

function composeModule(
  name: string,
  members: readonly { module: CanonicalAdapter['modules'][number]; factor: number }[],
): ComposedModule {
  const first = members[0]!.module;
  const [inputs, outputs] = [inFeatures(first), outFeatures(first)];
  const rank = members.reduce((sum, { module }) => sum + module.rank, 0);
  const a = new Float32Array(rank * inputs);
  const b = new Float32Array(outputs * rank);
  let at = 0;
  for (const { module, factor } of members) {
    if (inFeatures(module) !== inputs || outFeatures(module) !== outputs)
      throw new AdapterFormatError({
        code: 'shape_mismatch',
        message:
          `${printable(name)}: one adapter of the chain is for a layer [${outputs}, ${inputs}], ` +
          `another for [${outFeatures(module)}, ${inFeatures(module)}].`,
        subject: name,
      });
    a.set(toFloat32(module.a), at * inputs);
    const source = toFloat32(module.b);
    for (let row = 0; row < outputs; row++)
      for (let column = 0; column < module.rank; column++)
        b[row * rank + at + column] = factor * source[row * module.rank + column]!;
    at += module.rank;
  }
  return { name, rank, in: inputs, out: outputs, a, b };
}

/**
 * Whether every member of a chain was trained on top of exactly the members before it.
 * @param chain root first.
 * @returns the first problem, or null.
 */
export async function checkLineage(
  chain: readonly (ChainEntry & { readonly config: CanonicalConfig })[],
): Promise<AdapterFormatError | null> {
  for (const [index, { digest, config }] of chain.entries()) {
    const below = chain.slice(0, index);
    const expected = index === 0 ? null : await chainId(below);
    const base = chain[0]!.config.base;
    if (config.base !== base)
      return new AdapterFormatError({
        code: 'base_mismatch',
        message: `Adapter ${digest} is for the base ${config.base}, the root of its chain for ${base}.`,
        subject: digest,
      });
    if (config.parent !== expected)
      return new AdapterFormatError({
        code: 'parent_mismatch',
        message:
          `Adapter ${digest} was packed for the parent chain ${config.parent ?? '(none)'}, ` +
          `not for ${expected ?? '(none)'}. A delta is only valid on what it was trained on: pack it again with that parent.`,
        subject: digest,
      });
  }
  return null;
}
