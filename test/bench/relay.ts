import { connect as connectTcp, createServer, type Server, type Socket } from 'node:net';
import { type Address, formatAddress } from '../../src/sync/address.ts';

const HOST = '127.0.0.1';

/** A stretch of network between two nodes: counts the bytes that pass, TLS and all, and lets each of them take its time. */
export class Relay {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  /** Bytes towards the target, and back. */
  readonly bytes = { there: 0, back: 0 };
  /** How long everything takes one way, in ms. */
  delayMs = 0;

  private constructor(target: Address) {
    this.#server = createServer((near) => {
      const far = connectTcp(target);
      this.#pass(near, far, 'there');
      this.#pass(far, near, 'back');
    });
  }

  static async to(target: Address): Promise<Relay> {
    const relay = new Relay(target);
    await new Promise<void>((resolve) => relay.#server.listen(0, HOST, resolve));
    return relay;
  }

  get address(): string {
    const { port } = this.#server.address() as { port: number };
    return formatAddress({ host: HOST, port });
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #pass(from: Socket, to: Socket, direction: 'there' | 'back'): void {
    this.#sockets.add(from.setNoDelay(true));
    from.on('data', (chunk: Buffer) => {
      this.bytes[direction] += chunk.length;
      if (this.delayMs === 0) to.write(chunk);
      else setTimeout(() => to.write(chunk), this.delayMs);
    });
    from.on('error', () => undefined);
    from.once('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
