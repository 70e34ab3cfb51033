/** `npm run docs`: writes docs/cli.md from the definitions of the commands. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { COMMAND_GROUPS } from '../command-list.ts';
import { describeGroups } from '../help/describe-command.ts';
import { renderCliDocs } from './render-cli-docs.ts';

export const CLI_DOCS = fileURLToPath(new URL('../../docs/cli.md', import.meta.url));

/** @returns what docs/cli.md has to hold, formatted as the rest of the repository. */
export async function cliDocs(): Promise<string> {
  const markdown = renderCliDocs(await describeGroups(COMMAND_GROUPS));
  return format(markdown, { ...(await resolveConfig(CLI_DOCS)), parser: 'markdown' });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(CLI_DOCS, await cliDocs());
