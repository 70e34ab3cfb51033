/** A value that outlives the views that show it. */
export interface Store<T> {
  get(): T;
  set(value: T): void;
  /** @returns a function that unsubscribes. */
  subscribe(onChange: (value: T) => void): () => void;
}

export function createStore<T>(begin: T): Store<T> {
  let value = begin;
  const told = new Set<(value: T) => void>();
  return {
    get: () => value,
    set(next) {
      value = next;
      for (const tell of told) tell(next);
    },
    subscribe(onChange) {
      told.add(onChange);
      return () => told.delete(onChange);
    },
  };
}
