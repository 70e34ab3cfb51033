import { readFile } from 'node:fs/promises';
import os from 'node:os';
import { fileURLToPath } from 'node:url';

export interface Machine {
  cpu: string;
  cores: number;
  memoryGiB: number;
  os: string;
  versions: Record<string, string>;
}

/** Packages whose version can move a number. */
const MEASURED = ['onnxruntime-node', 'onnxruntime-web', 'koffi', 'miniflare', 'hono'];

export async function describeMachine(): Promise<Machine> {
  const root = new URL('../', import.meta.url);
  const version = async (file: string): Promise<string> => {
    const text = await readFile(fileURLToPath(new URL(file, root)), 'utf8').catch(() => '{"version":"?"}');
    return String((JSON.parse(text) as { version?: unknown }).version);
  };
  const packages = await Promise.all(
    MEASURED.map(async (name) => [name, await version(`node_modules/${name}/package.json`)] as const),
  );
  return {
    cpu: os.cpus()[0]?.model.trim() || 'unknown',
    cores: os.availableParallelism(),
    memoryGiB: Math.round((os.totalmem() / 2 ** 30) * 10) / 10,
    os: `${os.type()} ${os.release()} ${os.arch()}`,
    versions: {
      graft: await version('package.json'),
      node: process.versions.node,
      ...Object.fromEntries(packages),
    },
  };
}
