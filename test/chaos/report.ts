/** What happened: counted, in a line now and then, in tables at the end. */
import Table from 'cli-table3';
import { BLOW_KINDS, type BlowKind } from './blows.ts';
import { BREACHES, type BreachKind, type Verdict } from './truth.ts';

export interface Breach {
  readonly kind: BreachKind;
  /** Ms since the first request. */
  readonly at: number;
  readonly why: string;
  /** The request, what was expected, and what came. */
  readonly detail: Readonly<Record<string, unknown>>;
  /** As in the log of blows. */
  readonly blowBefore: string | null;
}

/** What counts as a kill or a hang, and as a restart. */
const KILLS: readonly BlowKind[] = ['kill-origin', 'skew-origin', 'kill-edge'];
const HANGS: readonly BlowKind[] = ['hang-origin'];

/** Of a run of 30 minutes; a shorter one does not have to reach them. */
export const TARGETS = { minutes: 30, killsAndHangs: 200, restarts: 100 };
/** In a run of this length or longer, each kind of blow must strike and each kind of change be acknowledged. */
const ALL_KINDS_MINUTES = 5;
/** As the world calls them. */
export const CHANGES = [
  'publish',
  'stage',
  'promote',
  'rollback',
  'rollback to before',
  'remove',
  'restore',
  'create key',
  'revoke key',
  'give grant',
  'take grant',
];
/** Share of the answers that must be whole. */
const LEAST_WHOLE = 0.5;

export class Report {
  readonly answers = new Map<string, number>();
  readonly changes = new Map<string, { acknowledged: number; repeated: number }>();
  readonly struck = new Map<BlowKind, number>();
  readonly missed = new Map<BlowKind, number>();
  readonly breaches: Breach[] = [];
  /** Events in the processes' logs: whether blows bite. */
  readonly heard = new Map<string, number>();
  restarts = 0;

  /** @returns whether it is a breach. */
  answer(verdict: Verdict): verdict is Verdict & { kind: 'breach' } {
    const label = 'code' in verdict ? `${verdict.kind}: ${verdict.code}` : verdict.kind;
    count(this.answers, label);
    return verdict.kind === 'breach';
  }

  /** @param repeated how often it had to be sent again. */
  change(what: string, repeated: number): void {
    const before = this.changes.get(what) ?? { acknowledged: 0, repeated: 0 };
    this.changes.set(what, {
      acknowledged: before.acknowledged + 1,
      repeated: before.repeated + repeated,
    });
  }

  /** @param landed false = nobody was up to be struck. */
  blow(kind: BlowKind, landed: boolean): void {
    count(landed ? this.struck : this.missed, kind);
  }

  hear(event: string): void {
    count(this.heard, event);
  }

  get killsAndHangs(): number {
    return [...KILLS, ...HANGS].reduce((sum, kind) => sum + (this.struck.get(kind) ?? 0), 0);
  }

  /** Requests that an edge took, without those whose client left. */
  get answered(): number {
    return this.#answers(({ label }) => label !== 'left' && label !== 'unreachable');
  }

  get whole(): number {
    return this.answers.get('whole') ?? 0;
  }

  #answers(which: (one: { label: string }) => boolean): number {
    return [...this.answers].reduce((sum, [label, times]) => sum + (which({ label }) ? times : 0), 0);
  }

  progress(elapsedMs: number): string {
    const refused = this.#answers(({ label }) => label.startsWith('refused'));
    const failed = this.#answers(({ label }) => label.startsWith('failed'));
    const total = this.#answers(({ label }) => label !== 'unreachable');
    const changes = [...this.changes.values()].reduce((sum, { acknowledged }) => sum + acknowledged, 0);
    return [
      clock(elapsedMs),
      `${sum(this.struck)} blows (${this.killsAndHangs} kills and hangs, ${this.restarts} restarts)`,
      `${((total / Math.max(1, elapsedMs)) * 1_000).toFixed(1)} answers/s`,
      `${this.whole} whole, ${refused} refused, ${failed} ended by an error, ` +
        `${this.answers.get('broken') ?? 0} broken, ${this.answers.get('left') ?? 0} left`,
      `${changes} changes`,
      `${this.breaches.length} breaches`,
    ].join(' | ');
  }

  /** Why the run proves nothing, or found something; empty = it passes. */
  problems(minutes: number): string[] {
    const problems = BREACHES.flatMap((kind) => {
      const times = this.breaches.filter((one) => one.kind === kind).length;
      return times === 0 ? [] : [`${times} ${kind}`];
    });
    if (this.whole < LEAST_WHOLE * this.answered || this.whole === 0)
      problems.push(`only ${this.whole} of ${this.answered} answers were whole: the run explores too little`);
    if (minutes >= ALL_KINDS_MINUTES) {
      const never = BLOW_KINDS.filter((kind) => !this.struck.has(kind));
      if (never.length > 0) problems.push(`never struck: ${never.join(', ')}`);
      const unchanged = CHANGES.filter((what) => !this.changes.has(what));
      if (unchanged.length > 0) problems.push(`never acknowledged: ${unchanged.join(', ')}`);
    }
    if (minutes >= TARGETS.minutes) {
      if (this.killsAndHangs < TARGETS.killsAndHangs)
        problems.push(`${this.killsAndHangs} kills and hangs instead of ${TARGETS.killsAndHangs}`);
      if (this.restarts < TARGETS.restarts)
        problems.push(`${this.restarts} restarts instead of ${TARGETS.restarts}`);
    }
    return problems;
  }

  tables(): string {
    const blows = table(
      ['blow', 'struck', 'nobody was up'],
      BLOW_KINDS.map((kind) => [kind, this.struck.get(kind) ?? 0, this.missed.get(kind) ?? 0]),
    );
    const answers = table(['answers', 'times'], sorted(this.answers));
    const heard = table(['events in the logs', 'times'], sorted(this.heard));
    const changes = table(
      ['changes', 'acknowledged', 'sent again'],
      [...this.changes].map(([what, { acknowledged, repeated }]) => [what, acknowledged, repeated]),
    );
    const breaches = table(
      ['breaches', 'times'],
      BREACHES.map((kind) => [kind, this.breaches.filter((one) => one.kind === kind).length]),
    );
    return [blows, heard, answers, changes, breaches].join('\n');
  }
}

const count = <K>(counts: Map<K, number>, key: K): void => void counts.set(key, (counts.get(key) ?? 0) + 1);
const sorted = (counts: ReadonlyMap<string, number>): [string, number][] =>
  [...counts].sort(([, a], [, b]) => b - a);
const sum = (counts: ReadonlyMap<unknown, number>): number =>
  [...counts.values()].reduce((total, times) => total + times, 0);

export const clock = (ms: number): string => {
  const seconds = Math.floor(ms / 1_000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
};

function table(head: string[], rows: (string | number)[][]): string {
  const made = new Table({ head, style: { head: [], border: [] } });
  made.push(...rows);
  return made.toString();
}
