import { useEffect, useRef } from 'preact/hooks';
import { ModelList } from '../../../protocol/completion-answers.ts';
import { type Client, readNames } from '../../api/client.ts';
import type { Problem } from '../../model/problem.ts';
import { byName } from '../../model/names.ts';
import { useLoad } from '../../parts/use-load.ts';

interface Models {
  /** Bases, and names that the keys know of. */
  readonly known: string[];
  readonly bases: string[];
  /** All that is known was read. */
  readonly settled: boolean;
  /** As `KeyProblem` shows it. */
  readonly trouble: {
    /** Why the API key is none, or none any more; null = it is good, as far as is known. */
    readonly refused: Problem | null;
    /** Why nothing is known; null = something is, or it is still read. */
    readonly problem: Problem | null;
    /** Reads all of it again: whether the key is good still, too. */
    onRetry(): void;
  };
}

/** What can be asked. @param api with the API key. @param isRefused that was refused with it: all is read again. */
export function useModels(client: Client, api: Client, isRefused: boolean): Models {
  // Another key may have other models.
  const keys = useRef({ api, count: 0 });
  if (keys.current.api !== api) keys.current = { api, count: keys.current.count + 1 };
  const models = useLoad(`models ${keys.current.count}`, () => api.get('/v1/models', ModelList));
  const names = useLoad('names', () => readNames(client));
  const origins = useLoad('base', () => client.call('GET /admin/origins', {}));
  const bases = [...new Set(origins.data?.origins.flatMap((origin) => origin.base?.id ?? []))];
  const known = new Set([
    ...(models.data?.data ?? []).map(({ id }) => id),
    ...(names.data?.entries ?? []).map(({ name }) => name),
  ]);
  const settled = [models, names, origins].every(({ data, problem }) => data !== null || problem !== null);
  const onRetry = () => void Promise.all([models, names, origins].map(({ reload }) => reload()));
  useEffect(() => {
    if (isRefused) onRetry();
  }, [isRefused]);
  return {
    ...{ known: [...known].sort(byName), bases, settled },
    trouble: {
      refused: models.problem?.code === 'invalid_api_key' ? models.problem : null,
      problem: settled && known.size + bases.length === 0 ? models.problem : null,
      onRetry,
    },
  };
}
