/** Where the edge sends by itself what happened: the URL comes from a tenant, and must not lead into a network. */

/** Names that lead to the machine itself or its network, wherever they are asked about. */
const LOCAL_NAME =
  /(^|\.)(localhost|local|internal|intranet|lan|home|corp|private|localdomain|home\.arpa|onion)$/;
const LOOPBACK = new Set(['localhost', '127.0.0.1', '[::1]']);
/** Characters; longer ones are no addresses of people. */
const MAX_URL_CHARACTERS = 1_000;

/**
 * Why nothing is sent to `text`; null = it may be. `https` to a public name, on any port, without a name or password in
 * it. Addresses in figures are refused, whichever: no certificate of a receiver that is meant to last is for one, and
 * there are too many ways to write a private one. A name is not looked up: a worker cannot; see docs/security.md.
 * @param local this machine's own loopback is fine as well, by `http` or `https` (`graft dev`).
 */
export function webhookProblem(text: string, local: boolean): string | null {
  const url = text.length > MAX_URL_CHARACTERS ? null : parsed(text);
  if (url === null) return `must be a URL of at most ${MAX_URL_CHARACTERS} characters`;
  if (url.username !== '' || url.password !== '') return 'must have no user name or password in it';
  if (url.hash !== '') return 'must have no fragment (#…)';
  const loopback = LOOPBACK.has(url.hostname);
  if (local && loopback && (url.protocol === 'http:' || url.protocol === 'https:')) return null;
  if (url.protocol !== 'https:') return 'must begin with https://';
  // The URL parser has written every form of an IPv4 address (0x7f.1, 2130706433) as four numbers.
  const host = url.hostname.replace(/\.$/, '');
  if (host.startsWith('[') || /^\d+(\.\d+){3}$/.test(host)) return 'must name its host, not an address';
  if (!host.includes('.') || LOCAL_NAME.test(host)) return 'must lead to a public host';
  return null;
}

function parsed(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}
