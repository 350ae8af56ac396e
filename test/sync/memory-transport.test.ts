import { expect, test } from 'vitest';
import { createIdentity, withNewKey } from '../../src/sync/identity.ts';
import { MemoryNetwork } from '../../src/sync/memory-transport.ts';
import type { Connection } from '../../src/sync/transport.ts';
import { describeTransport } from '../suites/transport-contract.ts';

describeTransport('the memory transport', () => {
  const network = new MemoryNetwork();
  const createNodeAt = (address: string, { node, keyProof } = createIdentity()) => {
    return { node, transport: network.transport(node, address, keyProof) };
  };
  let count = 0;
  return {
    deadAddress: 'nowhere',
    createNode: () => {
      count += 1;
      return createNodeAt(`node ${count}`);
    },
    createRotated: () => createNodeAt('rotated', withNewKey(createIdentity())),
    createNodeAt,
  };
});

async function pairOn(network: MemoryNetwork) {
  const [a, b] = [createIdentity().node, createIdentity().node];
  const accepted = new Promise<Connection>((accept) => {
    void network.transport(b, 'b').listen({
      admit: () => true,
      meets: () => true,
      accept,
      acceptData: () => null,
      acceptBare: () => null,
      introduce: async () => new Uint8Array(),
    });
  });
  const transport = network.transport(a, 'a');
  const near = await transport.dial('b', b, new AbortController().signal);
  return { a, b, transport, near, far: await accepted };
}

test('a cut link breaks connections and refuses new ones until it is mended', async () => {
  const network = new MemoryNetwork();
  const { a, b, transport, near, far } = await pairOn(network);
  network.cut(a, b);
  for (const end of [near, far]) {
    const reason = await new Promise<Error>((resolve) => end.onClose(resolve));
    expect(reason).toMatchObject({ code: 'CONNECTION_CLOSED' });
  }
  const { signal } = new AbortController();
  await expect(transport.dial('b', b, signal)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  network.mend(a, b);
  expect((await transport.dial('b', b, signal)).peer).toBe(b);
});

test('a stalled link keeps frames until it is mended', async () => {
  const network = new MemoryNetwork();
  const { a, b, near, far } = await pairOn(network);
  network.stall(a, b);
  const frames: number[] = [];
  far.onFrame((frame) => frames.push(frame.length));
  near.send(new Uint8Array(7));
  near.send(new Uint8Array(8));
  await new Promise(setImmediate);
  expect([frames, near.bufferedBytes]).toEqual([[], 15]);
  network.mend(a, b);
  await near.drained(0);
  expect(frames).toEqual([7, 8]);
});
