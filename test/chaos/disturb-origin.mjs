// Preloaded into an origin: a clock that is wrong by CHAOS_CLOCK_MS, and a disk that is full while the file
// CHAOS_FULL_DISK exists.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const skew = Number(process.env.CHAOS_CLOCK_MS ?? 0);
if (skew !== 0) {
  const RealDate = Date;
  const now = () => RealDate.now() + skew;
  globalThis.Date = class extends RealDate {
    constructor(...args) {
      super(...(args.length === 0 ? [now()] : args));
    }
    static now = now;
  };
}

const flag = process.env.CHAOS_FULL_DISK;
if (flag !== undefined) {
  const isFull = () => fs.existsSync(flag);
  const refuse = () => {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  };
  const { writeFile, statfs, open } = fs.promises;
  fs.promises.writeFile = async (...args) => (isFull() ? refuse() : writeFile(...args));
  fs.promises.statfs = async (...args) => {
    const found = await statfs(...args);
    return isFull() ? Object.assign(found, { bavail: 0, bfree: 0 }) : found;
  };
  const handle = await open('/dev/null', 'r');
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  const { write } = prototype;
  prototype.write = async function (...args) {
    return isFull() ? refuse() : write.apply(this, args);
  };
  syncBuiltinESMExports();
}
