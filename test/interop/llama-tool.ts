/** Small programs of other tools, run to their end. */
import { spawnSync } from 'node:child_process';
import path from 'node:path';

/** @returns what it printed. @throws with what it complained of. */
export function runTool(command: string, args: readonly string[], input = ''): string {
  const ran = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, input });
  if (ran.error) throw ran.error;
  if (ran.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${ran.stderr.slice(-2_000)}`);
  return ran.stdout;
}

/** Compiles a C file against the libraries that were built for llama-server. @returns the program. */
export function buildTool(llamaSource: string, source: string, program: string): string {
  const libraries = path.join(llamaSource, 'build/bin');
  const includes = ['include', 'ggml/include'].map((name) => `-I${path.join(llamaSource, name)}`);
  const links = [`-L${libraries}`, '-lllama', '-lggml', '-lggml-base', `-Wl,-rpath,${libraries}`];
  runTool('cc', ['-O1', '-o', program, source, ...includes, ...links]);
  return program;
}
