import {
  ExperimentId,
  type ExperimentList,
  type ExperimentStatus,
  type ExperimentView,
  type QueryOf,
} from '../../protocol/index.ts';
import { parseName } from '../admin/version-argument.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import { CliError, EXIT } from '../cli-error.ts';

/** @returns all that match, newest first. */
export async function listExperiments(
  client: ApiClient,
  filter: { name?: string; status?: ExperimentStatus } = {},
): Promise<ExperimentView[]> {
  const found: ExperimentView[] = [];
  for (let cursor: string | null = null; ;) {
    const call: { query: QueryOf<'GET /admin/experiments'> } = { query: { ...filter, cursor } };
    const page: ExperimentList = await callOperation(
      client,
      'list the experiments',
      'GET /admin/experiments',
      call,
    );
    found.push(...page.experiments);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}

export const getExperiment = (client: ApiClient, id: string): Promise<ExperimentView> =>
  callOperation(client, `look up ${id}`, 'GET /admin/experiments/:id', { params: { id } });

/** @param what an id, or a name: its one that is not archived. @throws CliError (not found) when it has none. */
export async function findExperiment(client: ApiClient, what: string): Promise<ExperimentView> {
  if (ExperimentId.safeParse(what).success) return getExperiment(client, what);
  const name = parseName(what);
  const all = await listExperiments(client, { name });
  const current = all.find(({ document }) => document.status !== 'archived');
  if (current !== undefined) return current;
  const old = all.length === 0 ? '' : ` (${all.length} archived: graft experiment list --all)`;
  throw new CliError({
    message: `'${name}' has no experiment${old}. Make one: graft experiment create ${name} --variant control=${name}@1 --variant treatment=${name}@2`,
    exitCode: EXIT.notFound,
    code: 'not_found',
  });
}
