import { lookUpVersions } from '../admin/look-up.ts';
import { parseName } from '../admin/version-argument.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { usageError } from '../flags.ts';

/** @param which `@2`, `2` or `name@2`. @returns the version, as `--variant` has it. @throws CliError (usage) */
export function treatmentOf(which: string, name: string): string {
  const own = which.startsWith(`${name}@`) ? which.slice(name.length) : which;
  const version = /^@?([1-9]\d{0,8})$/.exec(own)?.[1];
  if (version !== undefined) return `@${version}`;
  if (/^[^@]+@[1-9]\d{0,8}$/.test(which)) return which;
  throw usageError(`'${which}' is not a version to compare with the live one, such as @2.`);
}

/**
 * The live version against `treatment`, half of the units each.
 * @param treatment as {@link treatmentOf} gives it. @returns what `--variant` would have said.
 * @throws CliError when the name has no live version, or that one is the treatment.
 */
export async function livePair(client: ApiClient, name: string, treatment: string): Promise<string[]> {
  const versions = await lookUpVersions(client, parseName(name));
  const live = versions?.version ?? null;
  if (live === null)
    throw new CliError({
      message: `'${name}' has no live version to compare with. Publish one: graft publish <folder> --name ${name}`,
      exitCode: EXIT.notFound,
      code: 'model_not_found',
    });
  if (treatment === `@${live}`)
    throw new CliError({
      message: `${name}@${live} is the live version: it would be compared with itself. \`graft history ${name}\` lists the others; \`graft publish … --stage\` brings one without making it live.`,
      exitCode: EXIT.refused,
      code: 'version_conflict',
    });
  return [`control=@${live}`, `treatment=${treatment}`];
}
