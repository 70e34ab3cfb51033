import { ModelList } from '../../../protocol/completion-answers.ts';
import { type Client, readNames } from '../../api/client.ts';
import { byName } from '../../model/names.ts';
import { useLoad } from '../../parts/use-load.ts';

/** What can be asked: bases, and names that the keys know of; `settled` once all that is known was read. */
export function useModels(
  client: Client,
  api: Client,
): { known: string[]; bases: string[]; settled: boolean } {
  const models = useLoad('models', () => api.get('/v1/models', ModelList));
  const names = useLoad('names', () => readNames(client));
  const origins = useLoad('base', () => client.call('GET /admin/origins', {}));
  const bases = [...new Set(origins.data?.origins.flatMap((origin) => origin.base?.id ?? []))];
  const known = new Set([
    ...(models.data?.data ?? []).map(({ id }) => id),
    ...(names.data?.entries ?? []).map(({ name }) => name),
  ]);
  const settled = [models, names, origins].every(({ data, problem }) => data !== null || problem !== null);
  return { known: [...known].sort(byName), bases, settled };
}
