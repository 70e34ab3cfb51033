/** Who listens where, as Linux tells it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** In /proc/net/tcp. */
const LISTENING = '0A';

/** @returns inode of each listening TCP socket of this machine -> its port. */
function listeningSockets(): Map<string, number> {
  const rows = ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((file) =>
    readFileSync(file, 'utf8').trim().split('\n').slice(1),
  );
  return new Map(
    rows
      .map((row) => row.trim().split(/\s+/))
      .filter((fields) => fields[3] === LISTENING)
      .map((fields) => [fields[9] as string, parseInt((fields[1] as string).split(':')[1] as string, 16)]),
  );
}

/** @returns the ports that the process itself listens at, ascending. */
export function listeningPorts(pid: number): number[] {
  const sockets = listeningSockets();
  const folder = `/proc/${pid}/fd`;
  const ports = readdirSync(folder).flatMap((fd) => {
    try {
      return sockets.get(/^socket:\[(\d+)\]$/.exec(readlinkSync(`${folder}/${fd}`))?.[1] ?? '') ?? [];
    } catch {
      return []; // closed meanwhile
    }
  });
  return [...new Set(ports)].sort((a, b) => a - b);
}

/** @returns ids of the processes that `pid` started, and of those that they started. */
export function descendants(pid: number): number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        // The program's name, in parentheses, may hold anything.
        return [{ pid: Number(name), parent: Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]) }];
      } catch {
        return []; // ended meanwhile
      }
    });
  const below = (id: number): number[] =>
    parents.filter(({ parent }) => parent === id).flatMap((child) => [child.pid, ...below(child.pid)]);
  return below(pid);
}
