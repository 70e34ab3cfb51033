// Shares of right answers by version, as an SVG that reads on light and dark pages.
const [WIDTH, HEIGHT, LEFT, TOP, BAR] = [640, 300, 56, 36, 72];
const BOTTOM = HEIGHT - 44;

/**
 * @param shares right answers of each live version, in order. @param lines shares that are drawn as lines: `from`, below
 * which the first version is, and `goal`.
 */
export function plot(shares, { from, goal }) {
  const y = (share) => BOTTOM - share * (BOTTOM - TOP);
  const gap = (WIDTH - LEFT - 16) / shares.length;
  const percent = (share) => `${Math.round(100 * share)} %`;
  const text = (x, at, what, more = '') => `<text x="${x}" y="${at}" ${more}>${what}</text>`;
  const rule = (share, what) =>
    `<line x1="${LEFT}" x2="${WIDTH - 8}" y1="${y(share)}" y2="${y(share)}" stroke="#888" stroke-dasharray="4 4"/>` +
    text(LEFT - 6, y(share) + 4, what, 'text-anchor="end"');
  const bars = shares.map((share, i) => {
    const middle = LEFT + gap * (i + 0.5);
    const how = i === 0 ? 'trained on 8 rows' : `round ${i}, by its experiment`;
    return (
      `<rect x="${middle - BAR / 2}" y="${y(share)}" width="${BAR}" height="${BOTTOM - y(share)}" rx="3" fill="#2f7fd1"/>` +
      text(middle, y(share) + 20, percent(share), 'text-anchor="middle" font-weight="600" fill="#fff"') +
      text(middle, BOTTOM + 18, `version ${i + 1}`, 'text-anchor="middle"') +
      text(middle, BOTTOM + 34, how, 'text-anchor="middle" font-size="11"')
    );
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="system-ui, sans-serif" font-size="13" fill="#777">
<title>Right answers of each live version: ${shares.map(percent).join(', ')}</title>
${text(LEFT, 18, 'Right answers to 100 messages that nobody was trained on')}
${[rule(0, '0 %'), rule(from, percent(from)), rule(goal, percent(goal)), rule(1, '100 %')].join('\n')}
${bars.join('\n')}
</svg>
`;
}
