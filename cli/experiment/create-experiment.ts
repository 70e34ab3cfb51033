import { adaptersOf, type CreateExperiment, type ExperimentView } from '../../protocol/index.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import { parseReference } from '../admin/version-argument.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import { CliError, EXIT } from '../cli-error.ts';

export const createExperiment = (client: ApiClient, body: CreateExperiment): Promise<ExperimentView> =>
  callOperation(client, `make an experiment on ${body.name}`, 'POST /admin/experiments', { body });

/** @throws CliError when a version that the design names is not there, or is retired. */
export async function checkVersions(client: ApiClient, design: CreateExperiment): Promise<void> {
  const wanted = [...new Set(adaptersOf(design))].map(parseReference);
  const names = [...new Set(wanted.map(({ name }) => name))];
  const known = new Map<string, Awaited<ReturnType<typeof lookUpVersions>>>();
  for (const name of names) known.set(name, await lookUpVersions(client, name));
  for (const { name, version } of wanted) {
    const row = known.get(name)?.versions.find((one) => one.version === version);
    if (row !== undefined && (row.retired_at ?? null) === null) continue;
    throw new CliError({
      message: `${name}@${version} ${row === undefined ? 'does not exist' : 'is retired'}: graft history ${name}`,
      exitCode: row === undefined ? EXIT.notFound : EXIT.refused,
      code: row === undefined ? 'model_not_found' : 'version_conflict',
    });
  }
}
