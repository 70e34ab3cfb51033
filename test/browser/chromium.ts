import { existsSync } from 'node:fs';
import { chromium, type Browser } from 'playwright-core';
import { WAIT_MS } from '../setup/slow.ts';

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
  const browser = await chromium.launch({
    ...{ executablePath, timeout: WAIT_MS },
    args: ['--disable-dev-shm-usage', ...(webgpu ? SOFTWARE_WEBGPU : ['--disable-gpu'])],
  });
  const newContext = browser.newContext.bind(browser);
  // Also that of `newPage`. Below the limit of a test, so that a failure names the step.
  browser.newContext = async (options) => {
    const context = await newContext(options);
    context.setDefaultTimeout(WAIT_MS);
    return context;
  };
  return browser;
}
