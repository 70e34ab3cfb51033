import { createEnv } from './native-device.ts';
import type { OrtLibrary } from './ort-library.ts';

/** OrtHardwareDeviceType of a GPU, and ONNX Runtime's name of the provider. */
const GPU = 1;
const WEBGPU = 'WebGpuExecutionProvider';

/**
 * Hardware that ONNX Runtime finds by the operating system and has its WebGPU provider for; Vulkan's software devices
 * are none.
 * @returns whose GPU, such as "NVIDIA"; null = there is none.
 */
export function findGpu(ort: OrtLibrary): string | null {
  const env = createEnv(ort, 1);
  try {
    const gpu = ort.devices(env).find(({ type, provider }) => type === GPU && provider === WEBGPU);
    return gpu === undefined ? null : gpu.vendor || 'unknown';
  } finally {
    ort.release('env', 'ReleaseEnv', env);
  }
}
