import type { EngineObserver } from './engine-types.ts';

type Notice = (event: never) => void;

/**
 * An observer that cannot hurt the loop: what one of its methods throws is told to its own `onFault`, the first time
 * only, since a method that is broken is so for every token. What `onFault` itself throws is dropped.
 */
export function guardObserver(observer: EngineObserver): EngineObserver {
  const told = new Set<string>();
  const onFault: NonNullable<EngineObserver['onFault']> = (fault) => {
    try {
      observer.onFault?.(fault);
    } catch {
      // Nobody is left to tell.
    }
  };
  const guard = <T extends Notice>(name: string, notice: T | undefined): T | undefined => {
    if (notice === undefined) return undefined;
    const guarded: Notice = (event) => {
      try {
        notice.call(observer, event);
      } catch (error) {
        if (told.has(name)) return;
        told.add(name);
        onFault({ where: `observer ${name}`, error, requestIds: [] });
      }
    };
    return guarded as T;
  };
  const names = [
    'onStep',
    'onPark',
    'onFirstToken',
    'onToken',
    'onFinish',
    'onRefuse',
    'onAdapterLoad',
    'onAdapterEvict',
  ];
  const entries = (names as (keyof EngineObserver)[]).map((name) => [
    name,
    guard(name, observer[name] as Notice | undefined),
  ]);
  return { ...(Object.fromEntries(entries) as EngineObserver), onFault };
}
