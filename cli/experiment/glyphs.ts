/** What intervals are drawn with. Each is one column wide. */
export interface Glyphs {
  readonly left: string;
  readonly right: string;
  readonly line: string;
  readonly point: string;
  /** Where nothing is drawn over it. */
  readonly zero: string;
  /** Where the line is. */
  readonly crossed: string;
  /** In the place of an end that is beyond the scale. */
  readonly beyondLeft: string;
  readonly beyondRight: string;
}

export const UNICODE: Glyphs = {
  left: '├',
  right: '┤',
  line: '─',
  point: '●',
  zero: '│',
  crossed: '┼',
  beyondLeft: '←',
  beyondRight: '→',
};

export const ASCII: Glyphs = {
  left: '[',
  right: ']',
  line: '-',
  point: 'o',
  zero: '|',
  crossed: '+',
  beyondLeft: '<',
  beyondRight: '>',
};

/** Lines and dots need a locale of UTF-8; who asks for plain text (`NO_COLOR`) gets ASCII, too. */
export function glyphsFor(env: Readonly<Record<string, string | undefined>>): Glyphs {
  const locale = env['LC_ALL'] || env['LC_CTYPE'] || env['LANG'] || '';
  return /utf-?8/i.test(locale) && !env['NO_COLOR'] ? UNICODE : ASCII;
}
