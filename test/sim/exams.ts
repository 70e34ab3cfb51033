/** What clients have sent of kept evaluations. */
import { createHash } from 'node:crypto';

/** In its order a row is stored, and hashed. */
export interface ExamRow {
  user: string;
  expected: string;
}

/** In each row that a tenant keeps, and in nothing else. */
export const examOf = (number: number, tenant: string): string => `exam ${number} of ${tenant}`;

const textOf = (rows: readonly ExamRow[]): string => rows.map((row) => JSON.stringify(row)).join('\n');
export const examDigest = (rows: readonly ExamRow[]): string =>
  createHash('sha256').update(textOf(rows)).digest('hex');

/** After a lost answer its request may still be worked on so long, ms. */
const LOST_MS = 120_000;

class Exam {
  /** All rows that were sent for it, or tried to, by their digest. */
  readonly sent = new Map<string, readonly ExamRow[]>();
  #begun = 0;
  #open = 0;
  #unsureUntil = -Infinity;

  /** A change of it, or of its scores, begins. @returns to be called with whether an answer to it was lost. */
  begin(): (ended: { lost: boolean; at: number }) => void {
    this.#begun += 1;
    this.#open += 1;
    return ({ lost, at }) => {
      this.#open -= 1;
      if (lost) this.#unsureUntil = at + LOST_MS;
    };
  }

  /** @returns a function that says whether nobody has changed it since. */
  watch(now: number): () => boolean {
    const isSure = this.#open === 0 && now > this.#unsureUntil;
    const begun = this.#begun;
    return () => isSure && this.#begun === begun;
  }
}

/** What clients have sent, by name and label. */
export class Exams {
  readonly #exams = new Map<string, Exam>();

  /** Names and labels. */
  get all(): { name: string; label: string }[] {
    return [...this.#exams.keys()].map((key) => {
      const [name = '', label = ''] = key.split(' ');
      return { name, label };
    });
  }

  of(name: string, label: string): Exam {
    const key = `${name} ${label}`;
    const exam = this.#exams.get(key) ?? new Exam();
    this.#exams.set(key, exam);
    return exam;
  }
}
