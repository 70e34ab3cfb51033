import { availableParallelism } from 'node:os';
import { type Device, OrtError, type Provider, PROVIDERS } from './device.ts';

/** `auto`: the native library where it loads, else WebAssembly. */
export const WANTED_PROVIDERS = ['auto', ...PROVIDERS] as const;
export type WantedProvider = (typeof WANTED_PROVIDERS)[number];

/** Given by tests. */
export type OpenProvider = Record<Provider, (threads: number) => Promise<Device>>;

/** Each is loaded when it is asked for: neither koffi nor onnxruntime-web need be there where the other one runs. */
const OPEN: OpenProvider = {
  async cpu(threads) {
    const { ortLibrary } = await import('./native/ort-library.ts');
    const { NativeDevice } = await import('./native/native-device.ts');
    return new NativeDevice(ortLibrary(), threads);
  },
  async web(threads) {
    const { openWebDevice } = await import('./web/open-web-device.ts');
    return openWebDevice(threads);
  },
};

/**
 * @param params.threads of a run; all cores by default.
 * @returns the device, and a sentence for the operator: what runs and, where it was not asked for, why.
 * @throws OrtError that says what else can be done.
 */
export async function openDevice(params: {
  provider: WantedProvider;
  threads: number | undefined;
  open?: OpenProvider;
}): Promise<{ device: Device; message: string }> {
  const { provider, open = OPEN } = params;
  const threads = params.threads ?? availableParallelism();
  if (provider !== 'auto') {
    const device = await open[provider](threads).catch((error: unknown) => {
      const other = provider === 'cpu' ? 'web, which needs no native library' : 'cpu, the native library';
      throw new OrtError(
        `--provider ${provider}`,
        -1,
        `${firstLine(error)}; there is also --provider ${other}`,
      );
    });
    return { device, message: `provider ${provider}: ${device.description}` };
  }
  try {
    const device = await open.cpu(threads);
    return { device, message: `provider cpu: ${device.description}` };
  } catch (error) {
    const reason = firstLine(error);
    const device = await open.web(threads).catch((second: unknown) => {
      throw new OrtError(
        '--provider auto',
        -1,
        `neither cpu (${reason}) nor web (${firstLine(second)}) starts`,
      );
    });
    const why = `since the native library does not load (${reason})`;
    return { device, message: `provider web: ${device.description}, ${why}` };
  }
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '';
}
