/** A client that speaks the protocol wrongly, over real connections, for as long as it is let: what a node has to bear (invariants 7 and 8). */
import { randomBytes } from 'node:crypto';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectSecurely } from 'node:tls';
import { signHead } from '../../src/core/codec/chain.ts';
import { HASH_BYTES, sha256 } from '../../src/core/codec/hash.ts';
import { pack } from '../../src/core/codec/msgpack.ts';
import { PandoError } from '../../src/core/errors.ts';
import { type NodeId, nodeIdOfFingerprint, type StreamId, streamIdOf, type TreeName } from '../../src/core/ids.ts';
import { parseAddress } from '../../src/sync/address.ts';
import type { Identity } from '../../src/sync/identity.ts';
import { encodeMessage } from '../../src/sync/message-codec.ts';
import { type Message, PROTOCOL_RANGE, RELAYED_STREAMS_MAX } from '../../src/sync/messages.ts';
import { tlsOptions } from '../../src/sync/tls-options.ts';
import type { Connection, Transport } from '../../src/sync/transport.ts';

/** Frames between two moments in which others get a turn. */
const FRAMES_PER_TURN = 50;
/** Bytes on their way at most: what this client holds itself is not what is measured. */
const BUFFERED_BYTES_MAX = 8 * 1024 * 1024;
const IDLE_CONNECTIONS = 200;
const TREE = 'images' as TreeName;

export interface Target {
  readonly node: NodeId;
  readonly address: string;
}

/** One way to be a bad peer, until the signal comes. */
type Attack = (client: HostileClient, signal: AbortSignal) => Promise<void>;

export const ATTACKS: Readonly<Record<string, Attack>> = {
  'frames of noise': (client, signal) =>
    client.flood(signal, () => randomBytes(1 + Math.floor(Math.random() * 65_536))),
  'frames that claim to be huge': (client, signal) =>
    client.flood(signal, () => Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff, 0xc6, 0x7f, 0xff, 0xff, 0xff])),
  'frames that are deep': (client, signal) => client.flood(signal, () => Buffer.alloc(900_000, 0x91)),
  'questions without end': (client, signal) =>
    client.flood(signal, (count) => ({
      type: 'have',
      id: count + 1,
      reply: false,
      refresh: true,
      heads: [],
      failure: null,
    })),
  'calls without end, and nothing read': (client, signal) =>
    client.flood(signal, (count) => ({ type: 'request', id: count + 1, method: 'nothing', params: 'x'.repeat(1_000) })),
  'requests for streams that there are not': (client, signal) =>
    client.flood(signal, (count) => ({
      type: 'request',
      id: count + 1,
      method: 'transfer.prepare',
      params: bogusRequest(),
    })),
  'events of others': (client, signal) => client.flood(signal, (count) => client.forged(client.target.node, count)),
  'events that do not follow': (client, signal) =>
    client.flood(signal, (count) => client.forged(client.identity.node, count)),
  'offers and wishes without end': (client, signal) =>
    client.flood(signal, (count) => (count % 2 === 0 ? offer(count) : wish(count))),
  'connections that say nothing': (client, signal) => client.idle(signal, ''),
  'tickets that nobody gave out': (client, signal) =>
    client.idle(signal, `P${randomBytes(33).toString('base64url').slice(0, 43)}`),
  'strangers at the door': (client, signal) => client.knock(signal),
};

function bogusRequest() {
  const id = '01980000-0000-7000-8000-000000000000';
  const snapshot = { dataset: id, guid: '1' };
  const streams = Array.from({ length: 128 }, () => ({ snapshot, base: null, flags: null, resume: null }));
  return { transfer: id, tree: TREE, streams, mode: 'sealed', takes: '', resumable: false };
}

function streamsOf(count: number): StreamId[] {
  return Array.from({ length: RELAYED_STREAMS_MAX }, (_, index) =>
    streamIdOf(nodeIdOfFingerprint(sha256(pack([count, index]))), TREE),
  );
}

/** Streams of nodes that there are not, other ones each time. */
function offer(count: number): Message {
  return { type: 'offer', streams: streamsOf(count) };
}

function wish(count: number): Message {
  const place = { incarnation: 1, seq: 0, hash: new Uint8Array(HASH_BYTES) };
  return { type: 'follow', heads: streamsOf(count).map((stream) => ({ stream, ...place })) };
}

export class HostileClient {
  readonly identity: Identity;
  readonly target: Target;
  readonly #transport: Transport;

  constructor(identity: Identity, target: Target, transport: Transport) {
    this.identity = identity;
    this.target = target;
    this.#transport = transport;
  }

  /** Says hello and then this, again and again, on a new connection whenever the old one is closed; reads nothing. */
  async flood(signal: AbortSignal, say: (count: number) => Message | Uint8Array): Promise<void> {
    while (!signal.aborted) {
      const connection = await this.#connect().catch(() => undefined);
      if (connection !== undefined) await this.#floodOne(connection, signal, say);
      await pause();
    }
  }

  async #connect(): Promise<Connection> {
    const connection = await this.#transport.dial(this.target.address, this.target.node, AbortSignal.timeout(5_000));
    const { node } = this.identity;
    connection.send(encodeMessage({ type: 'hello', protocol: PROTOCOL_RANGE, node, software: 'x', capabilities: [] }));
    return connection;
  }

  async #floodOne(
    connection: Connection,
    signal: AbortSignal,
    say: (count: number) => Message | Uint8Array,
  ): Promise<void> {
    let isClosed = false;
    connection.onClose(() => {
      isClosed = true;
    });
    for (let count = 0; !isClosed && !signal.aborted; count += 1) {
      const said = say(count);
      connection.send(said instanceof Uint8Array ? said : encodeMessage(said));
      if (count % FRAMES_PER_TURN !== 0) continue;
      await pause();
      while (!isClosed && !signal.aborted && connection.bufferedBytes > BUFFERED_BYTES_MAX) await pause();
    }
    connection.close(closing());
  }

  /** Events under a head that does not fit them, signed with this client's key. */
  forged(author: NodeId, count: number): Message {
    const stream = streamIdOf(author, TREE);
    const head = signHead({ stream, incarnation: 1, seq: count + 2, hash: new Uint8Array(32) }, this.identity);
    return {
      type: 'events',
      head,
      events: [pack({ v: 1, seq: count + 2, at: 0, cause: 'command', type: 'tree.removed' })],
    };
  }

  /** Opens connections, says this on each, and holds them as long as it is let. */
  async idle(signal: AbortSignal, text: string): Promise<void> {
    const open = new Set<Socket>();
    const address = parseAddress(this.target.address);
    while (!signal.aborted) {
      if (open.size < IDLE_CONNECTIONS) {
        const socket = connectTcp(address);
        open.add(socket);
        socket.on('error', () => undefined).once('close', () => open.delete(socket));
        socket.write(text, 'latin1');
      }
      await pause();
    }
    for (const socket of open) socket.destroy();
  }

  /** As a stranger, who gets no further than the handshake. */
  async knock(signal: AbortSignal): Promise<void> {
    const address = parseAddress(this.target.address);
    const { privateKeyPem, certificatePem } = this.identity;
    while (!signal.aborted) {
      await new Promise<void>((resolve) => {
        const socket = connectSecurely({ ...tlsOptions({ privateKeyPem, certificatePem }), ...address }, () => {
          socket.write(
            `POST /introduction HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n${'x'.repeat(100_000)}`,
          );
          socket.end();
        });
        socket
          .on('error', () => undefined)
          .resume()
          .once('close', resolve);
      });
    }
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function closing() {
  return new PandoError('CONNECTION_CLOSED', 'Enough.');
}
