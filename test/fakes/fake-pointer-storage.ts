import type { PointerStorage } from '../../worker/registry/pointer-writer-object.ts';

/** A Durable Object's disk and alarm clock; the test rings it. */
export class FakePointerStorage implements PointerStorage {
  readonly values = new Map<string, unknown>();
  alarmAt: number | null = null;

  get = async (key: string): Promise<unknown> => this.values.get(key);
  put = async (key: string, value: unknown): Promise<void> => void this.values.set(key, value);
  delete = async (key: string): Promise<boolean> => this.values.delete(key);
  list = async (options: { prefix: string; limit: number }): Promise<Map<string, unknown>> =>
    new Map([...this.values].filter(([key]) => key.startsWith(options.prefix)).slice(0, options.limit));
  getAlarm = async (): Promise<number | null> => this.alarmAt;
  setAlarm = async (at: number): Promise<void> => {
    this.alarmAt = at;
  };
}
