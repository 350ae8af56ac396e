/** Streams over a slow link are compressed, where both ends can and that was asked for. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { PLAIN_STREAM } from '../../src/core/stream-flags.ts';
import { MemoryCompressor } from '../../src/transfer/compression/memory-compressor.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from './memory-world.ts';

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(() => {
  world = new MemoryWorld();
});

afterEach(() => world.stop());

/** `streamFlags` are those of alpha's ZFS: without `-c` by default, since with it streams are compressed already. */
async function start({ alphaCan = true, betaCan = true, streamFlags = PLAIN_STREAM } = {}): Promise<void> {
  alpha = await world.start(
    'alpha',
    undefined,
    { capabilities: { streamFlags } },
    {},
    new MemoryCompressor({ isThere: alphaCan }),
  );
  beta = await world.start('beta', undefined, {}, {}, new MemoryCompressor({ isThere: betaCan }));
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  await write('1');
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
  await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: dataset('beta/images'), ...EVERYTHING });
}

async function write(snapshot: string): Promise<void> {
  alpha.zfs.write('alpha/images', 'file', `${snapshot} of the same `.repeat(20_000));
  await alpha.zfs.snapshot([at('alpha/images', snapshot)]);
}

/** As if a stream from alpha had taken a minute for 60 MiB. */
function measureSlow(): void {
  beta.node.linkRates.note(alpha.node.id, { compressed: false, bytes: 60 * 1024 * 1024, ms: 60_000 });
}

async function sync() {
  const { steps, bytes } = await syncImages(beta);
  expect(steps.map(({ outcome }) => outcome.result)).toEqual(['done']);
  expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  return bytes;
}

describe('a stream', () => {
  it('is plain as long as nothing was measured, then compressed, and both ends say so', async () => {
    await start();
    await sync();
    expect(beta.node.linkUses.of(alpha.node.id)).toEqual({ mode: 'sealed', compressed: false, apart: false });
    measureSlow();
    await write('2');
    const bytes = await sync();
    const use = { mode: 'sealed', compressed: true, apart: false };
    expect(beta.node.linkUses.of(alpha.node.id)).toEqual(use);
    expect(alpha.node.linkUses.of(beta.node.id)).toEqual(use);
    // Told as what came of it, not as what it was on its way
    expect(bytes).toBeGreaterThan(100_000);
  });

  it.each([{ alphaCan: false }, { betaCan: false }, { streamFlags: { ...PLAIN_STREAM, compressed: true } }])(
    'is plain where one end cannot compress, and where ZFS has done so already (%o)',
    async (which) => {
      await start(which);
      measureSlow();
      await sync();
      expect(beta.node.linkUses.of(alpha.node.id)).toMatchObject({ compressed: false });
    },
  );

  it('is forgotten with its peer', async () => {
    await start();
    measureSlow();
    await sync();
    await beta.node.mirrors.remove(IMAGES);
    await beta.node.peers.remove(alpha.node.id);
    expect(beta.node.linkUses.of(alpha.node.id)).toBeNull();
    expect(beta.node.linkRates.prefersCompressed(alpha.node.id)).toBe(false);
  });
});
