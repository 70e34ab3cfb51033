import net from 'node:net';

export interface RawAnswer {
  text: string;
  /** Of each answer on the connection. */
  statuses: number[];
  bodyOf(index: number): string;
}

export function readAnswers(text: string): RawAnswer {
  const answers = text.split(/(?=HTTP\/1\.1 \d{3} )/).filter((answer) => answer.startsWith('HTTP/1.1'));
  return {
    text,
    statuses: answers.map((answer) => Number(answer.slice(9, 12))),
    bodyOf: (index) => answers[index]?.split('\r\n\r\n').slice(1).join('\r\n\r\n') ?? '',
  };
}

/** Sends bytes as they are. @returns what comes back until the other side closes. */
export function sendRaw(url: string, bytes: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve) => {
    const socket = net.connect({ host: hostname, port: Number(port) });
    let text = '';
    socket.setEncoding('latin1');
    socket.on('data', (piece: string) => void (text += piece));
    const done = () => resolve(text);
    socket.once('error', done);
    socket.once('close', done);
    socket.end(Buffer.from(bytes, 'latin1'));
  });
}
