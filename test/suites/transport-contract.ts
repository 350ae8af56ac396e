/** What every transport does: the longer form of `src/sync/transport.ts`. */
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { keysOf } from '../../src/core/codec/key-proof.ts';
import type { ErrorCode } from '../../src/core/errors.ts';
import { PandoError } from '../../src/core/errors.ts';
import type { NodeId } from '../../src/core/ids.ts';
import { type Connection, FRAME_BYTES_MAX, type Meets, type Transport } from '../../src/sync/transport.ts';

/** A node without anything but its transport. */
export interface BenchNode {
  readonly node: NodeId;
  readonly transport: Transport;
}

/** A place where transports can reach each other. */
export interface TransportBench {
  createNode(): BenchNode;
  /** One that has changed its key. */
  createRotated(): BenchNode;
  /** A node that is to listen at an address of which a node before it has told. */
  createNodeAt(address: string): BenchNode;
  /** An address at which nobody listens. */
  readonly deadAddress: string;
}

const NEVER = new AbortController().signal;
const TICKET = 'ticket-1';

/** Frames and the end of a connection, as promises. */
class Ear {
  readonly frames: Uint8Array[] = [];
  readonly closed: Promise<PandoError>;
  #wake: () => void = () => undefined;

  constructor(connection: Connection) {
    connection.onFrame((frame) => {
      this.frames.push(frame);
      this.#wake();
    });
    this.closed = new Promise((resolve) => connection.onClose(resolve));
  }

  async atLeast(count: number): Promise<Uint8Array[]> {
    while (this.frames.length < count) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.frames;
  }
}

/** A node that listens and keeps what comes in. */
class Listener {
  readonly accepted: Connection[] = [];
  readonly streams: { readonly stream: Duplex; readonly peer: NodeId; readonly ticket: string }[] = [];
  address = '';
  #wake: () => void = () => undefined;

  async listen({ transport }: BenchNode, admit: (peer: NodeId) => boolean, meets: Meets = () => true): Promise<this> {
    this.address = await transport.listen({
      admit,
      meets,
      accept: (connection) => {
        this.accepted.push(connection);
        this.#wake();
      },
      acceptBare: () => null,
      introduce: async (node, question) => new Uint8Array([...question, ...Buffer.from(node)]),
      acceptData: (peer, ticket) => {
        if (ticket !== TICKET) return null;
        return (stream) => {
          this.streams.push({ stream, peer, ticket });
          this.#wake();
        };
      },
    });
    return this;
  }

  async first(): Promise<Connection> {
    return this.#until(() => this.accepted[0]);
  }

  async firstStream(): Promise<{ readonly stream: Duplex; readonly peer: NodeId; readonly ticket: string }> {
    return this.#until(() => this.streams[0]);
  }

  async #until<T>(look: () => T | undefined): Promise<T> {
    for (;;) {
      const found = look();
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

async function rejectionOf(promise: Promise<unknown>): Promise<PandoError> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (outcome instanceof PandoError) return outcome;
  throw new Error(`expected a PandoError, got ${String(outcome)}`);
}

async function expectRejection(promise: Promise<unknown>, code: ErrorCode): Promise<PandoError> {
  const error = await rejectionOf(promise);
  expect(error.code).toBe(code);
  return error;
}

export function describeTransport(name: string, createBench: () => TransportBench): void {
  describe(name, () => {
    let bench: TransportBench;
    let nodes: BenchNode[];
    let here: BenchNode;
    let there: BenchNode;
    let listener: Listener;

    function createNode(node = bench.createNode()): BenchNode {
      nodes.push(node);
      return node;
    }

    async function connectedPair(): Promise<[Connection, Connection]> {
      const near = await here.transport.dial(listener.address, there.node, NEVER);
      return [near, await listener.first()];
    }

    beforeEach(async () => {
      bench = createBench();
      nodes = [];
      here = createNode();
      there = createNode();
      listener = await new Listener().listen(there, (peer) => peer === here.node);
    });

    afterEach(async () => {
      for (const { transport } of nodes) await transport.close();
    });

    test('each side of a connection knows who the other is', async () => {
      const [near, far] = await connectedPair();
      expect(near.peer).toBe(there.node);
      expect(far.peer).toBe(here.node);
      far.onFrame(() => undefined);
    });

    test('a node with a new key is the one that it was, to whoever it dials and whoever dials it', async () => {
      const rotated = createNode(bench.createRotated());
      const shown: string[][] = [];
      const note: Meets = ({ node, keyProof }) => {
        if (node === rotated.node) shown.push([...keysOf(keyProof)]);
        return true;
      };
      const ear = await new Listener().listen(createNode(), () => true, note);
      const its = await new Listener().listen(rotated, () => true);
      await rotated.transport.dial(ear.address, nodes.at(-1)?.node as NodeId, NEVER);
      expect((await ear.first()).peer).toBe(rotated.node);
      await (nodes.at(-1) as BenchNode).transport.dial(its.address, rotated.node, NEVER);
      expect(shown.map(({ length }) => length)).toEqual([2, 2]);
      expect(shown[0]).toEqual(shown[1]);
    });

    test('a node that shows a key which it has replaced gets nowhere, whoever dials', async () => {
      const wary = createNode();
      const refused = new Set<NodeId>();
      const ear = await new Listener().listen(
        wary,
        () => true,
        ({ node }) => {
          refused.add(node);
          return node !== here.node && node !== there.node;
        },
      );
      const { transport } = here;
      await expectRejection(transport.dial(ear.address, wary.node, NEVER), 'PEER_REFUSED');
      await expectRejection(transport.openData(ear.address, wary.node, TICKET, NEVER), 'PEER_REFUSED');
      await expect(transport.introduce(ear.address, wary.node, new Uint8Array(1), NEVER)).rejects.toThrow();
      await expectRejection(wary.transport.dial(listener.address, there.node, NEVER), 'PEER_UNKNOWN');
      await expectRejection(wary.transport.openData(listener.address, there.node, TICKET, NEVER), 'PEER_UNKNOWN');
      expect(refused).toEqual(new Set([here.node, there.node]));
      expect([...ear.accepted, ...ear.streams]).toEqual([]);
    });

    test('frames arrive whole and in order, both ways, also when nobody listened yet', async () => {
      const [near, far] = await connectedPair();
      const sent = Array.from({ length: 50 }, (_, index) => new Uint8Array(index * 100).fill(index));
      for (const frame of sent) {
        near.send(frame);
        far.send(frame);
      }
      const farEar = new Ear(far);
      await farEar.atLeast(50);
      const nearEar = new Ear(near);
      await nearEar.atLeast(50);
      for (const { frames } of [farEar, nearEar]) {
        expect(frames.map(({ length }) => length)).toEqual(sent.map(({ length }) => length));
        expect(Buffer.concat(frames).equals(Buffer.concat(sent))).toBe(true);
      }
      const bytes = sent.reduce((sum, frame) => sum + frame.length, 0);
      expect([near.bytesSent, far.bytesReceived, far.bytesSent, near.bytesReceived]).toEqual([
        bytes,
        bytes,
        bytes,
        bytes,
      ]);
    });

    test('a frame of the largest size passes, a larger one is refused before it leaves', async () => {
      const [near, far] = await connectedPair();
      const ear = new Ear(far);
      near.send(new Uint8Array(FRAME_BYTES_MAX));
      await ear.atLeast(1);
      expect(() => near.send(new Uint8Array(FRAME_BYTES_MAX + 1))).toThrow(
        expect.objectContaining({ code: 'PROTOCOL_FRAME_TOO_LARGE' }),
      );
      near.send(new Uint8Array(1));
      expect((await ear.atLeast(2)).map(({ length }) => length)).toEqual([FRAME_BYTES_MAX, 1]);
    });

    test('closing lets out what was sent, and tells the other side the code', async () => {
      const [near, far] = await connectedPair();
      const ear = new Ear(far);
      const own = new Ear(near);
      near.send(new Uint8Array(100_000));
      near.close(new PandoError('PROTOCOL_VERSION', 'for a test'));
      expect((await own.closed).message).toBe('for a test');
      expect((await ear.closed).code).toBe('PROTOCOL_VERSION');
      expect(ear.frames.map(({ length }) => length)).toEqual([100_000]);
    });

    test('whoever asks for the end after it has passed still hears of it; sending is no error then', async () => {
      const [near, far] = await connectedPair();
      near.close(new PandoError('CONNECTION_CLOSED', 'over'));
      await new Ear(far).closed;
      far.send(new Uint8Array(10));
      near.send(new Uint8Array(10));
      expect((await new Ear(far).closed).code).toBe('CONNECTION_CLOSED');
      expect((await new Ear(near).closed).message).toBe('over');
      await near.drained(0);
    });

    test('drained resolves once the buffer has gone down', async () => {
      const [near, far] = await connectedPair();
      const ear = new Ear(far);
      for (let count = 0; count < 20; count += 1) near.send(new Uint8Array(500_000));
      expect(near.bufferedBytes).toBeGreaterThan(1_000_000);
      await near.drained(0);
      expect(near.bufferedBytes).toBe(0);
      await ear.atLeast(20);
    });

    test('a node that the listener does not know is refused, and told how to be added', async () => {
      const stranger = createNode();
      const error = await expectRejection(stranger.transport.dial(listener.address, there.node, NEVER), 'PEER_REFUSED');
      expect(error.message).toContain(`pando peer add ${stranger.node}`);
      expect(listener.accepted).toEqual([]);
    });

    test('someone else at the address is recognised before anything is sent', async () => {
      const other = createNode();
      const error = await expectRejection(here.transport.dial(listener.address, other.node, NEVER), 'PEER_UNKNOWN');
      expect(error.evidence).toMatchObject({ peer: other.node, found: there.node });
      expect(listener.accepted).toEqual([]);
    });

    test('an address where nobody listens is unreachable', async () => {
      await expectRejection(here.transport.dial(bench.deadAddress, there.node, NEVER), 'PEER_UNREACHABLE');
    });

    test('dialling can be given up, before and while', async () => {
      await expectRejection(
        here.transport.dial(listener.address, there.node, AbortSignal.abort()),
        'CONNECTION_CLOSED',
      );
      const controller = new AbortController();
      const dialled = here.transport.dial(listener.address, there.node, controller.signal);
      controller.abort();
      await expectRejection(dialled, 'CONNECTION_CLOSED');
    });

    test('an address in use is refused', async () => {
      const second = bench.createNodeAt(listener.address);
      nodes.push(second);
      await expectRejection(
        new Listener().listen(second, () => true),
        'PORT_IN_USE',
      );
    });

    test('a data connection carries bytes both ways, to its end', async () => {
      const near = await here.transport.openData(listener.address, there.node, TICKET, NEVER);
      const { stream: far, peer, ticket } = await listener.firstStream();
      expect([peer, ticket]).toEqual([here.node, TICKET]);
      const sent = Buffer.alloc(3_000_000, 'pando');
      const answer = once(near, 'data');
      far.write('first');
      expect(String((await answer)[0])).toBe('first');
      far.end(sent);
      expect((await buffer(near)).equals(sent)).toBe(true);
    });

    test('what is written right behind the answer belongs to the stream', async () => {
      const eager = createNode();
      const address = await eager.transport.listen({
        admit: () => true,
        meets: () => true,
        accept: () => undefined,
        acceptData: () => (stream) => stream.end('right away'),
        acceptBare: () => null,
        introduce: async () => new Uint8Array(),
      });
      const near = await here.transport.openData(address, eager.node, TICKET, NEVER);
      expect(String(await buffer(near))).toBe('right away');
    });

    test('a stranger may introduce itself: its question is answered to the node that its key proves', async () => {
      const stranger = createNode();
      const { address } = listener;
      const answer = await stranger.transport.introduce(address, there.node, Buffer.from('hello '), NEVER);
      expect(String(Buffer.from(answer))).toBe(`hello ${stranger.node}`);
      await expectRejection(stranger.transport.dial(address, there.node, NEVER), 'PEER_REFUSED');
    });

    test('an introduction reaches the node that was meant, or nobody', async () => {
      const { address } = listener;
      const ask = (where: string, whom: NodeId, signal = NEVER) =>
        here.transport.introduce(where, whom, new Uint8Array(1), signal);
      await expectRejection(ask(address, createNode().node), 'PEER_UNKNOWN');
      await expectRejection(ask(bench.deadAddress, there.node), 'PEER_UNREACHABLE');
      await expectRejection(ask(address, there.node, AbortSignal.abort()), 'CONNECTION_CLOSED');
    });

    test('a data connection without a known ticket, or from a stranger, is refused', async () => {
      const stranger = createNode();
      const { address } = listener;
      await expectRejection(here.transport.openData(address, there.node, 'other', NEVER), 'PEER_REFUSED');
      await expectRejection(stranger.transport.openData(address, there.node, TICKET, NEVER), 'PEER_REFUSED');
      await expectRejection(here.transport.openData(address, stranger.node, TICKET, NEVER), 'PEER_UNKNOWN');
      await expectRejection(here.transport.openData(bench.deadAddress, there.node, TICKET, NEVER), 'PEER_UNREACHABLE');
      expect(listener.streams).toEqual([]);
    });

    test('closing a transport ends its connections and data connections on the other side', async () => {
      const [near] = await connectedPair();
      const ear = new Ear(near);
      const stream = await here.transport.openData(listener.address, there.node, TICKET, NEVER);
      const streamClosed = once(stream, 'close');
      stream.on('error', () => undefined).resume();
      await there.transport.close();
      expect((await ear.closed).code).toBe('CONNECTION_CLOSED');
      await streamClosed;
      await expectRejection(here.transport.dial(listener.address, there.node, NEVER), 'PEER_UNREACHABLE');
    });
  });
}
