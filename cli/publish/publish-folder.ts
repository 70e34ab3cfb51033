import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { AdapterFormatError, packAdapter, type PackedAdapter } from '../../adapters/index.ts';
import { Version } from '../admin/admin-answers.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { Output } from '../output.ts';
import { uploadBlob } from './upload-blob.ts';

export interface Published {
  version: Version;
  /** False when this very version was there already. */
  created: boolean;
  /** Bytes that had to be sent. */
  sent: number;
}

/**
 * Packs a PEFT folder, uploads it and makes it a version of `name`. Repeating it changes nothing.
 * @param baseId id of the base that the server serves.
 * @param parent name whose live version the adapter was trained on top of; null = on the base.
 * @throws CliError, `refused` when the adapter is not a plain delta for this base.
 */
export async function publishFolder(params: {
  client: ApiClient;
  baseId: string;
  folder: string;
  name: string;
  parent: string | null;
  stage: boolean;
  output: Output;
}): Promise<Published> {
  const { client, baseId, folder, name, parent, stage, output } = params;
  const parentChainId = parent === null ? null : await liveChainId(client, parent);
  const packed = await pack(folder, baseId, parentChainId);
  for (const warning of packed.warnings) output.note(`warning: ${warning}`);
  const progress = output.progress(name);
  let sent: number;
  try {
    sent = await uploadBlob({
      client,
      digest: packed.digest,
      bytes: packed.bytes,
      onProgress: (done) => progress.update(done, packed.bytes.length),
    });
  } finally {
    progress.end();
  }
  const response = await client.send(`publish ${name}`, '/admin/versions', {
    method: 'POST',
    body: JSON.stringify({ name, digest: packed.digest, parent, stage }),
  });
  return { version: Version.parse(await response.json()), created: response.status === 201, sent };
}

async function liveChainId(client: ApiClient, parent: string): Promise<string> {
  const live = (await lookUpVersions(client, parent))?.versions.find((version) => version.live);
  if (live !== undefined) return live.chain_id;
  throw new CliError({
    message: `The parent '${parent}' has no live version that this key may use; \`graft ls\` lists the names.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
  });
}

async function pack(folder: string, baseId: string, parentChainId: string | null): Promise<PackedAdapter> {
  const read = async (file: string): Promise<Uint8Array<ArrayBuffer>> => {
    try {
      return new Uint8Array(await readFile(path.join(folder, file)));
    } catch {
      throw new CliError({
        message: `${path.join(folder, file)} cannot be read; give the folder that PEFT's save_pretrained wrote.`,
        exitCode: EXIT.usage,
        code: 'folder_invalid',
      });
    }
  };
  const [config, safetensors] = await Promise.all([
    read('adapter_config.json'),
    read('adapter_model.safetensors'),
  ]);
  const files = { configJson: new TextDecoder().decode(config), safetensors };
  try {
    return await packAdapter({ files, baseId, parentChainId });
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    const where = error.path === undefined ? folder : path.join(folder, error.path);
    throw new CliError({
      message: `${where}: ${error.message} (${error.code})`,
      exitCode: EXIT.refused,
      code: 'adapter_invalid',
    });
  }
}
