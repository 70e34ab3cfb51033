import { actsBeforeParent } from '../protocol/activation.ts';
import { chainId, type ChainEntry } from '../protocol/identity.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { twoClassifiers } from '../protocol/classes.ts';
import type { CanonicalConfig, CanonicalAdapter } from './format/canonical.ts';
import { toFloat32 } from './format/dtype.ts';
import { inFeatures, outFeatures, textModule } from './format/lora-module.ts';
import { err, ok, type Result } from '../protocol/api-error.ts';

/** One member of a composition. */
export interface Member {
  /** Its name in messages: a path or a name. */
  readonly label: string;
  /** Lineage from a canonical file; null for a file without lineage (PEFT, MLX, kohya, GGUF). */
  readonly config: Pick<CanonicalConfig, 'base' | 'parent'> | null;
  /** sha256 of a canonical file; null for others. */
  readonly digest: string | null;
  /** Its scale in the sum, on top of its own alpha / rank. */
  readonly scale: number;
}

/** The base and parent of the composed adapter. */
export interface CheckedMembers {
  /** Base id; null when no member names one. */
  readonly base: string | null;
  /** Chain id of the adapters below all members; null = the base itself. */
  readonly parent: string | null;
  /** Each a sentence. */
  readonly warnings: readonly string[];
}

type Lineage = Member & { readonly config: NonNullable<Member['config']> };

/**
 * Checks whether members may be composed into one adapter. They may be
 * - a chain, root first, each packed for exactly the ones before it, at the scales that they have here
 *   (`checkLineage`'s rule); the result's parent is none, or
 * - siblings, all packed for the same parent; the result has that parent.
 *
 * A file without lineage counts as a sibling, with a warning: nothing in it says what it was trained on.
 * @returns `empty_adapter`, `base_mismatch` or `parent_mismatch` otherwise.
 */
export async function checkMembers(
  members: readonly Member[],
): Promise<Result<CheckedMembers, AdapterFormatError>> {
  if (members.length === 0)
    return err(new AdapterFormatError({ code: 'empty_adapter', message: 'There is nothing to compose.' }));
  const known = members.filter((member): member is Lineage => member.config !== null);
  const [first] = known;
  if (first === undefined)
    return ok({ base: null, parent: null, warnings: members.map((member) => taken(member, null)) });

  for (const { label, config } of known)
    if (config.base !== first.config.base)
      return err(
        new AdapterFormatError({
          code: 'base_mismatch',
          message:
            `${printable(label)} is for the base ${printable(config.base)}, but ` +
            `${printable(first.label)} is for ${printable(first.config.base)}. Only adapters of one ` +
            'base can be composed.',
          subject: label,
        }),
      );
  const { base, parent } = first.config;
  const odd = known.find(({ config }) => config.parent !== parent);
  const warnings = members.filter(({ config }) => config === null).map((member) => taken(member, parent));
  if (odd === undefined) return ok({ base, parent, warnings });
  if (warnings.length > 0 || parent !== null) return err(mixed(first, odd));
  const broken = await checkChain(known);
  return broken ? err(broken) : ok({ base, parent: null, warnings });
}

const named = (parent: string | null): string =>
  parent === null ? 'the base itself' : `the parent chain ${parent}`;

const taken = ({ label }: Member, parent: string | null): string =>
  `${printable(label)} does not record what it was trained on; assuming ${named(parent)}.`;

const mixed = (first: Lineage, odd: Lineage): AdapterFormatError =>
  mismatch(
    odd,
    `${printable(odd.label)} was packed for ${named(odd.config.parent)}, but ${printable(first.label)} ` +
      `for ${named(first.config.parent)}. Compose either a whole chain of canonical files, root first, ` +
      'each packed on the ones before it, or siblings of one parent.',
  );

const mismatch = ({ label }: Member, message: string): AdapterFormatError =>
  new AdapterFormatError({ code: 'parent_mismatch', message, subject: label });

/** @param members at least two; the first was packed for the base itself. */
async function checkChain(members: readonly Lineage[]): Promise<AdapterFormatError | null> {
  const below: { digest: string; scale: number }[] = [];
  for (const member of members) {
    const { parent } = member.config;
    if (below.length > 0 && parent !== (await chainId(below))) {
      const trained = below.map(({ digest }) => ({ digest, scale: 1 }));
      const scaled = members.find(({ scale }) => scale !== 1);
      if (scaled && parent === (await chainId(trained)))
        return mismatch(
          member,
          `${printable(member.label)} was trained on exactly the members before it, at scale 1, but ` +
            `${printable(scaled.label)} has the scale ${scaled.scale}. Only the last member of a chain ` +
            'can be scaled.',
        );
      return mixed(members[0]!, member);
    }
    if (member.digest !== null) below.push({ digest: member.digest, scale: member.scale });
  }
  return null;
}

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
      const name = textModule(module.name);
      const list = members.get(name) ?? [];
      list.push({ module, factor: scale * module.scale });
      members.set(name, list);
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
  chain: readonly (ChainEntry & Pick<CanonicalAdapter, 'config' | 'classifier'>)[],
): Promise<AdapterFormatError | null> {
  for (const [index, { digest, config, classifier }] of chain.entries()) {
    const below = chain.slice(0, index);
    const expected = index === 0 ? null : await chainId(below);
    const base = chain[0]!.config.base;
    if (config.base !== base)
      return new AdapterFormatError({
        code: 'base_mismatch',
        message: `Adapter ${digest} is for the base ${config.base}, but the root of its chain is for ${base}.`,
        subject: digest,
      });
    const acts = below.findLast((member) => member.config.invocation !== undefined);
    if (acts !== undefined && config.invocation === undefined)
      return new AdapterFormatError({
        code: 'parent_mismatch',
        message: actsBeforeParent(`Adapter ${digest}`, `its parent ${acts.digest}`),
        subject: digest,
      });
    const classifies = classifier === undefined ? undefined : below.find((member) => member.classifier);
    if (classifies !== undefined)
      return new AdapterFormatError({
        code: 'classifier_unsupported',
        message: twoClassifiers(`Adapter ${digest}`, `its parent ${classifies.digest}`),
        subject: digest,
      });
    if (config.parent !== expected)
      return new AdapterFormatError({
        code: 'parent_mismatch',
        message:
          `Adapter ${digest} was packed for the parent chain ${config.parent ?? '(none)'}, not for ` +
          `${expected ?? '(none)'}. A delta is only valid on what it was trained on. Pack it again ` +
          'with that parent.',
        subject: digest,
      });
  }
  return null;
}
