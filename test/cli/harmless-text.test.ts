import { Ansis } from 'ansis';
import { describe, expect, it } from 'vitest';
import { stripControlChars, stripControlCharsJson } from '../../cli/output.ts';

const ESC = '\u001b';
const HOSTILE: readonly string[] = [
  `${ESC}[2J`, // clears the screen
  `${ESC}[1A${ESC}[2K`, // rewrites the line above
  `${ESC}]0;title\u0007`,
  `${ESC}]52;c;cm0gLXJmIH4=\u0007`, // sets the clipboard
  `${ESC}]8;;http://evil.example${ESC}\\link${ESC}]8;;${ESC}\\`,
  `${ESC}[6n`, // makes the terminal type
  `${ESC}P+q544e${ESC}\\`,
  `${ESC}[8m`, // hides what follows
  `${ESC}[30;40m`,
  `${ESC}${ESC}[31m[2J`,
  '\u009b2J', // the same in one character
  '\u009d52;c;eA==\u009c',
  '\r',
  '\b\b\b',
  '\u0000',
  '\u007f',
  '\u202e', // turns direction around
  '\u2066',
];
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/;

describe('harmless', () => {
  it.each(HOSTILE.map((text) => [JSON.stringify(text), text]))('takes %s apart', (_shown, text) => {
    expect(stripControlChars(`a${text}b`)).not.toMatch(CONTROL);
    const coloured = stripControlChars(`a${text}b`, { colours: true });
    expect(coloured.replaceAll(`${ESC}[31m`, '')).not.toMatch(CONTROL);
  });

  it('leaves text, tabs and line breaks as they are', () => {
    const text = 'für Ärzte:\t日本語 👩‍⚕️\n\n- שלום [31m';
    expect(stripControlChars(text)).toBe(text);
    expect(stripControlChars(text, { colours: true })).toBe(text);
  });

  it('keeps the colours of our own text where allowed', () => {
    const colors = new Ansis(1);
    for (const line of [colors.red('a'), colors.bold('a'), colors.dim(`a ${colors.cyan('b')}`)]) {
      expect(stripControlChars(line, { colours: true })).toBe(line);
      expect(stripControlChars(line)).not.toMatch(CONTROL);
    }
  });
});

describe('stripControlCharsJson', () => {
  it('returns the same value without control characters', () => {
    for (const text of HOSTILE) {
      const json = stripControlCharsJson({ [text]: [text] });
      expect(json).not.toMatch(CONTROL);
      expect(JSON.parse(json)).toEqual({ [text]: [text] });
    }
  });
});
