import type { ExperimentView } from '../../protocol/index.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';

/**
 * Whether a promotion may replace what is live: asked when that is neither control nor the variant, because it was
 * published meanwhile and nobody has compared it.
 * @param params.ask null = nobody is there. @returns what `over` is to be. @throws CliError (refused)
 */
export async function confirmOver(
  client: ApiClient,
  params: {
    view: ExperimentView;
    variant: string | undefined;
    yes: boolean;
    ask: (question: string) => Promise<boolean | null>;
  },
): Promise<{ over?: number }> {
  const { view, yes, ask } = params;
  const { name, variants } = view.document;
  const key = params.variant ?? view.proposal?.variant;
  const variant = variants.find((one) => one.key === key);
  const live = (await lookUpVersions(client, name))?.version ?? null;
  // What is not known here the server refuses in its own words.
  if (variant === undefined || live === null) return {};
  if ([variants[0], variant].some((one) => one?.adapter === `${name}@${live}`)) return {};
  const said = `${name}@${live} is live, which is neither control nor ${variant.key}: nobody has compared it.`;
  const agreed = yes || (await ask(`${said} Replace it by ${variant.adapter}?`));
  if (agreed === true) return { over: live };
  throw new CliError({
    message:
      agreed === null
        ? `${said} To replace it by ${variant.adapter} all the same, add --yes.`
        : 'nothing was changed',
    exitCode: EXIT.refused,
    code: 'version_conflict',
  });
}
