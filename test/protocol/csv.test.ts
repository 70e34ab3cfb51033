import { describe, expect, it } from 'vitest';
import { csv, usageCsv } from '../../protocol/admin-api/tenants.ts';

describe('comma-separated values', () => {
  it('follow RFC 4180', () => {
    expect(
      csv(
        ['a', 'b'],
        [
          ['x,y', 1],
          ['say "hi"', -2],
          ['two\nlines', 0],
          ['', 3],
        ],
      ),
    ).toBe('a,b\r\n"x,y",1\r\n"say ""hi""",-2\r\n"two\nlines",0\r\n,3\r\n');
  });

  it.each(['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '=HYPERLINK("http://x","y")'])(
    'do not let %j be a formula',
    (text) => {
      const [, line = ''] = csv(['a'], [[text]]).split(/\r\n(?=.)/);
      expect(line.replace(/^"/, '')).toMatch(/^'/);
    },
  );

  it('show who used what', () => {
    const row = (group: string) => ({
      group,
      requests: 2,
      errors: 1,
      prompt_tokens: 10,
      completion_tokens: 5,
      total_tokens: 15,
    });
    const usage = { from: '', to: '', cursor: null };
    expect(
      usageCsv({ ...usage, by: 'key', rows: [row('key_1'), row('key_2')] }, new Map([['key_1', '=A1,"x"']])),
    ).toBe(
      'key,label,requests,errors,prompt_tokens,completion_tokens,total_tokens\r\n' +
        'key_1,"\'=A1,""x""",2,1,10,5,15\r\nkey_2,,2,1,10,5,15\r\n',
    );
    expect(usageCsv({ ...usage, by: 'name', rows: [row('-a/b')] }, new Map())).toBe(
      "name,requests,errors,prompt_tokens,completion_tokens,total_tokens\r\n'-a/b,2,1,10,5,15\r\n",
    );
    const priced = {
      ...usage,
      by: 'day' as const,
      currency: 'EUR',
      rows: [{ ...row('2026-01-31'), cost: 0.25 }],
    };
    expect(usageCsv(priced, new Map())).toBe(
      'day,requests,errors,prompt_tokens,completion_tokens,total_tokens,cost,currency\r\n' +
        '2026-01-31,2,1,10,5,15,0.25,EUR\r\n',
    );
  });
});
