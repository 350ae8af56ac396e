import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { TransferStarted } from '../../src/core/events.ts';
import {
  holdTagOf,
  parseTransferId,
  type SnapshotGuid,
  streamIdOf,
  TRANSFER_TREE,
  uuidFrom,
} from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { PLAIN_STREAM } from '../../src/core/stream-flags.ts';
import { TransferJournal } from '../../src/transfer/journal.ts';
import { damaged } from '../main/damaged-log.ts';
import { at, dataset, IMAGES, introduce, MemoryWorld, syncImages, type WorldNode } from '../main/memory-world.ts';

const TRANSFER = parseTransferId(uuidFrom(1, new Uint8Array(16)));

let world: MemoryWorld;
let alpha: WorldNode;
let beta: WorldNode;

beforeEach(async () => {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  beta = await world.start('beta');
  await introduce(alpha, beta);
  await alpha.zfs.create(dataset('alpha/images'));
  alpha.zfs.write('alpha/images', 'file', 'text');
  await alpha.zfs.snapshot([at('alpha/images', '1')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
});

afterEach(() => world.stop());

/** Leaves an intent in the journal, as a node does that is gone before it could end it. */
async function crashAfterIntent(
  { node }: WorldNode,
  intent: {
    readonly held?: TransferStarted['held'];
    readonly targets?: { name: string; dataset: string; snapshot: SnapshotGuid }[];
  },
): Promise<void> {
  const journal = await TransferJournal.open(node.history, () => undefined);
  await journal.start({
    type: 'transfer.started',
    transfer: TRANSFER,
    role: 'sender',
    peer: node.id,
    tree: IMAGES,
    held: intent.held ?? [],
    heldBelow: [],
    targets: (intent.targets ?? []) as never,
    resumable: [],
  });
  await node.stop();
}

/** The first snapshot of the tree, as an intent says that it was called. */
async function heldAs(snapshot: string): Promise<TransferStarted['held'][number]> {
  const listed = await alpha.zfs.list(dataset('alpha'));
  const guid = listed.flatMap(({ snapshots }) => snapshots)[0]?.guid as SnapshotGuid;
  return { snapshot, guid };
}

describe('a start after a crash', () => {
  it('finds a hold again whose snapshot was renamed meanwhile, even out of the tree', async () => {
    await alpha.zfs.hold(holdTagOf(alpha.node.id, TRANSFER), [at('alpha/images', '1')]);
    await crashAfterIntent(alpha, { held: [await heldAs('alpha/images@1')] });
    await alpha.zfs.rename(dataset('alpha/images'), dataset('alpha/elsewhere'));
    await alpha.zfs.renameSnapshot(at('alpha/elsewhere', '1'), 'first' as never);
    alpha = await world.start('alpha', alpha);
    expect(await alpha.zfs.holds([at('alpha/elsewhere', 'first')])).toEqual([[]]);
  });

  it('releases the holds of a transfer that was cut short, and no others', async () => {
    const snapshot = at('alpha/images', '1');
    await alpha.zfs.hold(holdTagOf(alpha.node.id, TRANSFER), [snapshot]);
    await alpha.zfs.hold('somebody' as never, [snapshot]);
    await crashAfterIntent(alpha, {
      held: [await heldAs('alpha/images@1'), { snapshot: 'alpha/images@gone', guid: '7' as SnapshotGuid }],
    });
    alpha = await world.start('alpha', alpha);
    expect(await alpha.zfs.holds([snapshot])).toEqual([['somebody']]);
    expect((await TransferJournal.open(alpha.node.history, () => undefined)).unfinished()).toEqual([]);
  });

  it('goes on without the journal when that is damaged, and transfers again', async () => {
    await crashAfterIntent(alpha, { held: [await heldAs('alpha/images@1')] });
    alpha = await world.start('alpha', {
      ...alpha,
      log: damaged(alpha.log, streamIdOf(alpha.identity.node, TRANSFER_TREE), 1),
    });
    expect(alpha.node.history.faults()).toEqual([]);
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
    await beta.node.mirrors.add(mirror);
    await syncImages(beta);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });

  it('keeps the intent while the pool is not there, and clears up once it is', async () => {
    const snapshot = at('alpha/images', '1');
    await alpha.zfs.hold(holdTagOf(alpha.node.id, TRANSFER), [snapshot]);
    await crashAfterIntent(alpha, { held: [await heldAs('alpha/images@1')] });
    alpha.zfs.exportPool('alpha');
    const without = await world.start('alpha', alpha);
    await without.node.stop();
    alpha.zfs.importPool('alpha');
    alpha = await world.start('alpha', without);
    expect(await alpha.zfs.holds([snapshot])).toEqual([[]]);
  });

  it('marks a replica that had come whole but was not marked, so that the next sync goes on from it', async () => {
    const mirror = { tree: IMAGES, from: alpha.node.id, root: dataset('beta/copy'), ...EVERYTHING };
    await beta.node.mirrors.add(mirror);
    const id = alpha.node.trees.graph(IMAGES).named('' as never);
    await beta.zfs.create(dataset('beta/other'));
    const stream = alpha.zfs;
    const { PassThrough } = await import('node:stream');
    const pipe = new PassThrough();
    const { signal } = new AbortController();
    await Promise.all([
      stream
        .send(
          { snapshot: at('alpha/images', '1'), base: null, flags: PLAIN_STREAM, resumeToken: null },
          { kind: 'stream', stream: pipe },
          signal,
        )
        .then(() => pipe.end()),
      beta.zfs.receive(
        {
          target: dataset('beta/copy'),
          create: { origin: null, properties: {}, snapshot: null },
          overPlaceholder: false,
          baseHeld: false,
          expected: null,
          keepPartial: false,
        },
        { kind: 'stream', stream: pipe },
        signal,
      ),
    ]);
    const first = id?.snapshots[0]?.guid as SnapshotGuid;
    await crashAfterIntent(beta, {
      targets: [
        { name: 'beta/copy', dataset: id?.id ?? '', snapshot: first },
        { name: 'beta/other', dataset: id?.id ?? '', snapshot: first },
      ],
    });
    beta = await world.start('beta', beta);
    const [copy] = await beta.zfs.listOnly([dataset('beta/copy')]);
    const [other] = await beta.zfs.listOnly([dataset('beta/other')]);
    expect(copy?.properties).toMatchObject({ 'pando:id': id?.id, readonly: 'on', canmount: 'noauto' });
    expect(other?.properties).not.toHaveProperty('pando:id');
    await alpha.zfs.snapshot([at('alpha/images', '2')]);
    const { plan } = await syncImages(beta);
    expect(plan.steps.map(({ kind }) => kind)).toEqual(['receive-incremental']);
    expect((await beta.node.verifier.verify(IMAGES)).ok).toBe(true);
  });
});
