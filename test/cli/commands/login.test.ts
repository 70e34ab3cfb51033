import { describe, expect, it } from 'vitest';
import { EXIT } from '../../../cli/cli-error.ts';
import { serverUrl } from '../../../cli/commands/account.ts';

describe('serverUrl', () => {
  it.each([
    ['https://graft.example.com', 'https://graft.example.com'],
    ['HTTPS://Graft.Example.com/', 'https://graft.example.com'],
    ['https://example.com/graft/', 'https://example.com/graft'],
    ['http://localhost:8787', 'http://localhost:8787'],
    ['http://127.0.0.1:8787/', 'http://127.0.0.1:8787'],
    ['http://[::1]:8787', 'http://[::1]:8787'],
  ])('%s -> %s', (text, url) => {
    expect(serverUrl(text)).toBe(url);
  });

  it.each([
    ['graft.example.com', /not an address/],
    ['ftp://example.com', /not an address/],
    ['https://example.com/?a=b', /not an address/],
    ['https://user:secret@example.com', /name or password/],
    ['http://example.com', /Use https/],
    ['http://127.0.0.1.example.com', /Use https/],
  ])('refuses %s', (text, message) => {
    expect(() => serverUrl(text)).toThrow(message);
    expect(() => serverUrl(text)).toThrow(expect.objectContaining({ exitCode: EXIT.usage }));
  });
});
