import type { BuiltGraphs, Progress } from '../model/build-graphs.ts';
import { GRAPH_KINDS, type GraphKind } from '../model/graph-form.ts';
import type { Device, Session, SessionCores, Weights } from './device.ts';

/**
 * The sessions of a base's graphs. Where they share their weights all are opened at once, since the second and third
 * cost little; else the first, and each of the others when a step needs it.
 */
export class GraphSessions {
  private readonly opened = new Map<string, Promise<Session>>();

  private constructor(
    private readonly device: Device,
    private readonly built: BuiltGraphs,
    private readonly weights: Weights,
    /** Smallest first. */
    private readonly kinds: readonly GraphKind[],
  ) {}

  /** @param params.kinds that may be opened; the largest is among them. */
  static async open(params: {
    device: Device;
    built: BuiltGraphs;
    kinds: readonly GraphKind[];
    onProgress: Progress;
  }): Promise<GraphSessions> {
    const { device, built, onProgress } = params;
    const kinds = GRAPH_KINDS.filter((kind) => params.kinds.includes(kind));
    const weights = await device.weights(built.weightsPath, built.weights);
    const sessions = new GraphSessions(device, built, weights, kinds);
    const cores: readonly SessionCores[] = (device.lanes ?? 1) > 1 ? ['all', 'one'] : ['all'];
    const now = (device.sharesWeights ? kinds : kinds.slice(0, 1)).flatMap((kind) => [
      ...cores.map((each) => () => sessions.get(kind, each)),
      ...sessions.parts.map((_, part) => () => sessions.part(kind, part)),
    ]);
    for (const [index, open] of now.entries()) {
      await open();
      onProgress('Loading the graphs', index + 1, now.length);
    }
    return sessions;
  }

  /** What a prompt's chunk may be read in; [] where each session would hold its own weights. */
  get parts(): BuiltGraphs['parts'] {
    return this.device.sharesWeights ? this.built.parts : [];
  }

  /** @returns the smallest graph that may be opened and takes all deltas that `kind` takes. */
  covering(kind: GraphKind): GraphKind {
    const least = GRAPH_KINDS.indexOf(kind);
    return this.kinds.find((each) => GRAPH_KINDS.indexOf(each) >= least) ?? kind;
  }

  /** One that could not be opened is tried again at the next call. @throws OrtError */
  get(kind: GraphKind, cores: SessionCores = 'all'): Promise<Session> {
    return this.session(`${kind} ${cores}`, this.built.graphs[kind], cores);
  }

  /** @throws OrtError */
  part(kind: GraphKind, part: number): Promise<Session> {
    return this.session(`${kind} part ${part}`, this.built.parts[part]!.graphs[kind], 'all');
  }

  private session(key: string, path: string, cores: SessionCores): Promise<Session> {
    const known = this.opened.get(key);
    if (known !== undefined) return known;
    const opening = this.device.session(path, this.weights, cores);
    this.opened.set(key, opening);
    opening.catch(() => this.opened.delete(key));
    return opening;
  }

  async close(): Promise<void> {
    const sessions = await Promise.all(this.opened.values());
    for (const session of sessions) session.close();
    this.weights.close();
  }
}
