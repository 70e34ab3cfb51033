import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** WebGPU on SwiftShader, which Chromium brings; without them there is none where there is no GPU. */
const SOFTWARE_WEBGPU = [
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--enable-features=Vulkan',
  '--ignore-gpu-blocklist',
];

/** The system's browser; a test without one fails, for a skipped test proves nothing. */
export async function startChromium({ webgpu = false } = {}): Promise<Browser> {
  const { CHROMIUM } = process.env;
  const executablePath = CHROMIUM ?? PLACES.find((place) => existsSync(place));
  if (executablePath === undefined || !existsSync(executablePath))
    throw new Error(
      `No Chromium at ${executablePath ?? PLACES.join(', ')}. ` +
        `Install one (Debian: apt-get install chromium) or set CHROMIUM to its path.`,
    );
  return chromium.launch({
    executablePath,
    args: ['--disable-dev-shm-usage', ...(webgpu ? SOFTWARE_WEBGPU : ['--disable-gpu'])],
  });
}
