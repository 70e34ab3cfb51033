/** For which names `graft improve --yes` was given: on this machine, beside the login, by server. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { CliError } from '../cli-error.ts';
import { credentialsPath } from '../connection.ts';
import { writePrivateFile } from '../local/private-files.ts';

type Env = Record<string, string | undefined>;

/** Names by server. */
const ConsentFile = z.record(z.string(), z.array(z.string()));

const fileOf = (env: Env): string | null => {
  const credentials = credentialsPath(env);
  return credentials === null ? null : path.join(path.dirname(credentials), 'improve.json');
};

async function read(file: string): Promise<z.infer<typeof ConsentFile>> {
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return {};
  try {
    return ConsentFile.parse(JSON.parse(text));
  } catch {
    throw new CliError({
      message: `${file} was not written by \`graft improve\`. Remove it.`,
      code: 'consent_invalid',
    });
  }
}

/** Whether `--yes` was given for the name earlier. */
export async function mayTrain(
  env: Env,
  { server, name }: { server: string; name: string },
): Promise<boolean> {
  const file = fileOf(env);
  return file !== null && ((await read(file))[server] ?? []).includes(name);
}

/** Without a home folder nothing is remembered. @param yes false = forget it. */
export async function rememberConsent(
  env: Env,
  { server, name, yes }: { server: string; name: string; yes: boolean },
): Promise<void> {
  const file = fileOf(env);
  if (file === null) return;
  const all = await read(file);
  const names = new Set(all[server]);
  if (names.has(name) === yes) return;
  if (yes) names.add(name);
  else names.delete(name);
  await writePrivateFile(file, `${JSON.stringify({ ...all, [server]: [...names].sort() }, null, 2)}\n`);
}
