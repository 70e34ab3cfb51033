import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

/** How many connections there may be, and for how long one that does nothing stays; see limits.ts. */
export interface ConnectionLimits {
  /** Open at once; the rest of the server's own limit is where a new one stands until another is closed for it. */
  held: number;
  /** … of them those of one address that have not proved themselves. */
  unprovedOfAddress: number;
  /** Between two requests of one that has proved itself, ms. */
  keepAliveMs: number;
  /** … and of one that has not, ms. */
  unprovedKeepAliveMs: number;
}

interface Unproved {
  readonly address: string;
  /** Requests under way. */
  busy: number;
}

/**
 * Who may hold a connection. One on which a request came that only the edge can send (its signature was good) has
 * proved itself, stays long and is never closed for another. All others are strangers': they are kept for a moment only,
 * a bounded number of them for an address, and the oldest is closed when there is no room for a new one, so that no
 * number of them keeps the edge out. All callers may come from one address (a proxy or tunnel on this machine): a new
 * connection is therefore never the one that is refused.
 */
export class Connections {
  readonly #limits: ConnectionLimits;
  /** Oldest first. */
  readonly #unproved = new Map<Socket, Unproved>();
  readonly #perAddress = new Map<string, number>();
  #open = 0;

  constructor(limits: ConnectionLimits) {
    this.#limits = limits;
  }

  /** Open ones, and those among them that have not proved themselves. */
  get counts(): { open: number; unproved: number } {
    return { open: this.#open, unproved: this.#unproved.size };
  }

  /** The server's `connection`. */
  readonly opened = (socket: Socket): void => {
    const address = socket.remoteAddress ?? '';
    this.#open += 1;
    socket.once('close', () => {
      this.#open -= 1;
      this.#forget(socket);
    });
    const ofAddress = this.#perAddress.get(address) ?? 0;
    if (ofAddress >= this.#limits.unprovedOfAddress) this.#closeOldest(address);
    else if (this.#open > this.#limits.held) this.#closeOldest(null);
    this.#unproved.set(socket, { address, busy: 0 });
    this.#perAddress.set(address, (this.#perAddress.get(address) ?? 0) + 1);
  };

  /** The server's `request`; to be called before anybody answers it. */
  readonly requested = (request: IncomingMessage, response: ServerResponse): void => {
    const { socket } = request;
    const unproved = this.#unproved.get(socket);
    if (unproved === undefined) return;
    unproved.busy += 1;
    // Node has just set its own time, which is the long one.
    response.once('finish', () => {
      if (this.#unproved.has(socket)) socket.setTimeout(this.#limits.unprovedKeepAliveMs);
    });
    response.once('close', () => (unproved.busy -= 1));
  };

  /** A request on it was one that only the edge can send. */
  prove(socket: Socket): void {
    this.#forget(socket);
  }

  #forget(socket: Socket): void {
    const unproved = this.#unproved.get(socket);
    if (unproved === undefined) return;
    this.#unproved.delete(socket);
    const left = (this.#perAddress.get(unproved.address) ?? 1) - 1;
    if (left === 0) this.#perAddress.delete(unproved.address);
    else this.#perAddress.set(unproved.address, left);
  }

  /** One without a request under way if there is one: a signature may just be looked at. @param address null = any. */
  #closeOldest(address: string | null): void {
    let oldest: Socket | null = null;
    for (const [socket, unproved] of this.#unproved) {
      if (address !== null && unproved.address !== address) continue;
      oldest ??= socket;
      if (unproved.busy > 0) continue;
      oldest = socket;
      break;
    }
    if (oldest === null) return;
    this.#forget(oldest);
    oldest.destroy();
  }
}
