/** Lines and a bar on stderr; a program that started us hears every whole percent, as JSON on stdout. */
export function progressReporter(params: {
  stderr: { isTTY?: boolean; write(text: string): unknown };
  onPercent: (stage: string, percent: number) => void;
}): (stage: string, done: number, total: number) => void {
  const { stderr, onPercent } = params;
  let current = '';
  let shown = -1;
  let told = -1;
  return (stage, done, total) => {
    if (stage !== current) {
      current = stage;
      shown = -1;
      told = -1;
    }
    const percent = total > 0 ? Math.floor((100 * Math.min(done, total)) / total) : 100;
    if (percent !== told) onPercent(stage, percent);
    told = percent;
    const step = stderr.isTTY === true ? percent : Math.floor(percent / 10) * 10;
    if (step === shown) return;
    shown = step;
    if (stderr.isTTY !== true) {
      stderr.write(`${stage}: ${step} %\n`);
      return;
    }
    const bar = '█'.repeat(Math.floor(percent / 4)).padEnd(25, '░');
    stderr.write(`\r\x1b[2K${stage} ${bar} ${percent} %${percent === 100 ? '\n' : ''}`);
  };
}
