import type { Experiment, ExperimentView } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';

/** @param document as it was read, with the changes; it is sent as the version after. */
export async function changeExperiment(
  client: ApiClient,
  params: { id: string; document: Experiment; why: string | undefined; dryRun: boolean },
): Promise<ExperimentView> {
  const { id, document, why, dryRun } = params;
  const body = {
    document: { ...document, version: document.version + 1 },
    ...(why === undefined ? {} : { why }),
    ...(dryRun ? { dry_run: true } : {}),
  };
  const what = `change the experiment on ${document.name}`;
  return callOperation(client, what, 'PUT /admin/experiments/:id', { params: { id }, body });
}
