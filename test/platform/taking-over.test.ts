/** A standby takes over what its owner has mounted, on real ZFS. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AvailableZfs, ensureZfs } from '../../peers/provision/ensure-zfs.ts';
import type { RelativeName, TreeName } from '../../src/core/ids.ts';
import { EVERYTHING } from '../../src/core/plan/filter.ts';
import { below, introduceReal, type RealNode, startRealNode, syncTree } from './real-node.ts';

const IMAGES = 'images' as TreeName;
const WEB = 'web' as RelativeName;

describe('taking over a dataset that its owner has mounted', () => {
  let zfs: AvailableZfs;
  let alpha: RealNode;
  let beta: RealNode;

  beforeAll(async () => {
    zfs = await ensureZfs();
    alpha = await startRealNode('alpha');
    beta = await startRealNode('beta');
    await execa('zfs', ['create', below(alpha.pool, 'images')]);
    await execa('zfs', ['create', below(alpha.pool, 'images/web')]);
    await execa('zfs', ['create', below(alpha.pool, 'images/web/below')]);
    await execa('zfs', ['snapshot', '-r', `${below(alpha.pool, 'images')}@1`]);
    await alpha.node.trees.add({ tree: IMAGES, root: below(alpha.pool, 'images') });
    await introduceReal(alpha, beta, false);
    await alpha.node.grants.give(beta.node.id, { trees: '*', role: 'standby' });
    await beta.node.mirrors.add({ tree: IMAGES, from: alpha.node.id, root: below(beta.pool, 'copy'), ...EVERYTHING });
    await syncTree(beta, IMAGES);
  });

  afterAll(async () => {
    await beta.remove();
    await alpha.remove();
    await zfs.stop();
  });

  function ownerAtAlpha(): string | undefined {
    return alpha.node.trees.graph(IMAGES).named(WEB)?.owner.node;
  }

  it('ends all writing there, leaves what lies below as it was, and lets the standby write', async () => {
    const at = (name: string): string => join(alpha.pool.mountpoint, 'images', name);
    await beta.node.ownership.take({ tree: IMAGES, name: WEB, recursive: false, withoutOwner: false });
    await expect.poll(ownerAtAlpha).toBe(beta.node.id);
    await expect(writeFile(at('web/after'), 'x')).rejects.toMatchObject({ code: 'EROFS' });
    await writeFile(at('web/below/after'), 'x');
    await execa('zfs', ['mount', below(beta.pool, 'copy/web')]);
    await writeFile(join(beta.pool.mountpoint, 'copy/web/after'), 'x');
    await execa('zfs', ['snapshot', `${below(beta.pool, 'copy/web')}@2`]);
  });

  it('has the former owner follow', async () => {
    await syncTree(alpha, IMAGES);
    const web = alpha.node.trees.graph(IMAGES).named(WEB);
    expect(web?.snapshots.map(({ name }) => name)).toEqual(['1', '2']);
  });

  it('works for what the owner never took a snapshot of, and keeps aside what it wrote there', async () => {
    const empty = 'empty' as RelativeName;
    await execa('zfs', ['create', '-p', below(alpha.pool, 'images/empty/below')]);
    await writeFile(join(alpha.pool.mountpoint, 'images/empty/before'), 'x');
    await execa('zfs', ['snapshot', `${below(alpha.pool, 'images/empty/below')}@1`]);
    await syncTree(beta, IMAGES);
    await beta.node.ownership.take({ tree: IMAGES, name: empty, recursive: true, withoutOwner: false });
    await execa('zfs', ['mount', below(beta.pool, 'copy/empty')]);
    await writeFile(join(beta.pool.mountpoint, 'copy/empty/after'), 'x');
    await execa('zfs', ['snapshot', `${below(beta.pool, 'copy/empty')}@2`]);
    const known = () => alpha.node.trees.graph(IMAGES).named(empty);
    await expect.poll(() => known()?.owner.node).toBe(beta.node.id);
    await syncTree(alpha, IMAGES);
    expect(known()?.snapshots.map(({ name }) => name)).toEqual(['2']);
    expect(await alpha.node.diverged.list(IMAGES)).toMatchObject([{ from: below(alpha.pool, 'images/empty') }]);
  });
});
