/**
 * Copies ONNX Runtime's library for Linux x64 and marks its CPUID instructions, so that `older-processor.c` answers them
 * where the processor cannot trap them. Run it by hand: `node --import tsx test/setup/older-library.ts <new folder>`. It needs
 * binutils. The installed library stays as it is.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const CPUID = Buffer.of(0x0f, 0xa2);
/** No instruction in 64 bits, of the same length. */
const MARK = Buffer.of(0x06, 0xa2);

const [folder] = process.argv.slice(2);
if (folder === undefined)
  throw new Error('usage: node --import tsx test/setup/older-library.ts <new folder>');
const installed = dirname(createRequire(import.meta.url).resolve('onnxruntime-node/package.json'));
const file = 'bin/napi-v6/linux/x64/libonnxruntime.so.1';
const library = readFileSync(join(installed, file));
const output = (script: string): string =>
  execFileSync('sh', ['-c', script, 'sh', join(installed, file)], { encoding: 'utf8' });

/** Parts of the file that are loaded as code: offset, address, bytes. */
const code = [...output('readelf -lW "$1"').matchAll(/LOAD +(\S+) +(\S+) +\S+ +(\S+) +\S+ +R E/g)].map(
  (match) => match.slice(1).map(Number),
) as [number, number, number][];
const instructions = output('objdump -d --no-show-raw-insn "$1" | grep -w cpuid').trim().split('\n');
for (const instruction of instructions) {
  const address = parseInt(instruction, 16);
  const [offset, begin] = code.find(([, from, bytes]) => address >= from && address < from + bytes)!;
  const at = address - begin + offset;
  if (!library.subarray(at, at + 2).equals(CPUID)) throw new Error(`no CPUID at ${instruction}`);
  MARK.copy(library, at);
}
mkdirSync(join(folder, dirname(file)), { recursive: true });
writeFileSync(join(folder, file), library);
console.log(`marked ${instructions.length} instructions; OLDER_ONNXRUNTIME=${folder}`);
