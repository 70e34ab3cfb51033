import { ExperimentView, type Experiment } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';

/** @param document as it was read, with the changes; it is sent as the version after. */
export async function changeExperiment(
  client: ApiClient,
  params: { id: string; document: Experiment; why: string | undefined; dryRun: boolean },
): Promise<ExperimentView> {
  const { id, document, why, dryRun } = params;
  const response = await client.send(
    `change the experiment on ${document.name}`,
    `/admin/experiments/${id}`,
    {
      method: 'PUT',
      body: JSON.stringify({
        document: { ...document, version: document.version + 1 },
        ...(why === undefined ? {} : { why }),
        ...(dryRun ? { dry_run: true } : {}),
      }),
    },
  );
  return ExperimentView.parse(await response.json());
}
