import type { BlobRecord } from '../../protocol/index.ts';

/** One adapter being received: its record, and how far each part is. */
export class Upload {
  private readonly states: ('missing' | 'receiving' | 'held')[];
  /** `Clock.now()` of the last sign of life, ms. */
  lastActive: number;
  /** Set while the parts are being joined. */
  assembling: Promise<boolean> | null = null;

  constructor(
    readonly record: BlobRecord,
    now: number,
    held: (index: number) => boolean = () => false,
  ) {
    this.states = record.parts.map((_part, index) => (held(index) ? 'held' : 'missing'));
    this.lastActive = now;
  }

  state(index: number): 'missing' | 'receiving' | 'held' {
    return this.states[index] ?? 'missing';
  }

  set(index: number, state: 'missing' | 'receiving' | 'held', now: number): void {
    this.states[index] = state;
    this.lastActive = now;
  }

  get missing(): number[] {
    return this.states.flatMap((state, index) => (state === 'held' ? [] : [index]));
  }

  /** What this upload will still write: parts that are not here, and the file that they are joined to. */
  get unwrittenBytes(): number {
    return this.missing.reduce((sum, index) => sum + this.record.parts[index]!.bytes, this.record.bytes);
  }

  get receiving(): boolean {
    return this.assembling !== null || this.states.includes('receiving');
  }

  matches(record: BlobRecord): boolean {
    return JSON.stringify(record) === JSON.stringify(this.record);
  }
}
