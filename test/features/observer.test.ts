import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import type { Dataset } from '../../src/core/graph/graph.ts';
import { type DatasetName, type RelativeName, relativeTo } from '../../src/core/ids.ts';
import type { WatchedTree } from '../../src/features/observe/observer.ts';
import type { ListedDataset } from '../../src/zfs/zfs.ts';
import { at, codeOf, dataset, gate, IMAGES, MemoryWorld, type WorldNode } from '../main/memory-world.ts';

/** What somebody does behind Pando's back; the numbers pick what it is done to. */
interface Deed {
  readonly verb:
    | 'create'
    | 'snapshot'
    | 'clone'
    | 'rename'
    | 'rename-snapshot'
    | 'promote'
    | 'destroy'
    | 'destroy-snapshot';
  readonly pick: number;
  readonly second: number;
  /** What the node looks at then. */
  readonly look: 'nothing' | 'some' | 'all';
}

const deeds = fc.array(
  fc.record({
    verb: fc.constantFrom<Deed['verb']>(
      'create',
      'snapshot',
      'snapshot',
      'clone',
      'rename',
      'rename-snapshot',
      'promote',
      'destroy',
      'destroy-snapshot',
    ),
    pick: fc.nat(1000),
    second: fc.nat(1000),
    look: fc.constantFrom<Deed['look']>('nothing', 'some', 'all'),
  }),
  { maxLength: 40 },
);

function chosen<Item>(items: readonly Item[], pick: number): Item | undefined {
  return items[pick % Math.max(1, items.length)];
}

let counter = 0;

async function perform({ zfs }: WorldNode, { verb, pick, second }: Deed): Promise<void> {
  const listed = await zfs.list(dataset('alpha/images'));
  const one = chosen(listed, pick) as ListedDataset;
  const snapshot = chosen(one.snapshots, second)?.name;
  counter += 1;
  const child = `${chosen(listed, second)?.name}/n${counter}` as DatasetName;
  const isRoot = one.name === 'alpha/images';
  switch (verb) {
    case 'create':
      return zfs.create(child);
    case 'snapshot':
      return zfs.snapshot([at(one.name, `s${counter}`)]);
    case 'clone':
      return snapshot === undefined ? undefined : zfs.clone(at(one.name, snapshot), child);
    case 'rename':
      return isRoot ? undefined : zfs.rename(one.name, child);
    case 'rename-snapshot':
      return snapshot === undefined
        ? undefined
        : zfs.renameSnapshot(at(one.name, snapshot), at('x', `r${counter}`).snapshot);
    case 'promote':
      return zfs.promote(one.name);
    case 'destroy':
      return isRoot ? undefined : zfs.destroy(one.name);
    case 'destroy-snapshot':
      return snapshot === undefined ? undefined : zfs.destroySnapshot(at(one.name, snapshot));
  }
}

/** A listing in the words of a graph: names, origins and snapshots, by guid and in order. */
function picture(listed: readonly ListedDataset[]): string[] {
  return listed
    .map(({ name, guid, origin, snapshots }) => {
      const shots = snapshots.map((one) => `${one.name}=${one.guid}`).join(',');
      return `${name.slice('alpha/images'.length).replace(/^\//, '')} ${guid} <${origin?.guid ?? ''} ${shots}`;
    })
    .sort();
}

function logged({ node }: WorldNode): string[] {
  const graph = node.trees.graph(IMAGES);
  return graph
    .sorted()
    .map(({ name, guid, origin, snapshots }) => {
      const shots = snapshots.map((one) => `${one.name}=${one.guid}`).join(',');
      return `${name} ${guid} <${origin?.snapshot ?? ''} ${shots}`;
    })
    .sort();
}

let world: MemoryWorld;
let alpha: WorldNode;

const look = (node: WorldNode) => node.node.verifier.verify(IMAGES);

function watched(): WatchedTree {
  return {
    tree: IMAGES,
    root: dataset('alpha/images'),
    ownerOf: () => ({ node: alpha.node.id, epoch: 1 }),
    saidOwnerOf: () => undefined,
    claims: () => () => undefined,
    atOwner: () => new Set<never>(),
    heard: () => null,
    mayBeAbsent: false,
  };
}

/** As the node does after a command. */
async function lookAtSome({ pick, second }: Deed): Promise<void> {
  const listed = await alpha.zfs.list(dataset('alpha/images'));
  const some = new Set([pick, second].map((number) => chosen(listed, number)?.name ?? expect.fail()));
  const names = Array.from(some, (name) => relativeTo(dataset('alpha/images'), name) ?? expect.fail());
  await alpha.node.observer.lookAt(watched(), names, 'observed');
}

/** Clones whose origin is not in the graph. */
function hangingOffNothing(): string[] {
  const graph = alpha.node.trees.graph(IMAGES);
  const isThere = ({ origin }: Dataset): boolean => {
    const parent = origin?.dataset == null ? undefined : graph.get(origin.dataset);
    return origin === null || parent?.snapshots.some(({ guid }) => guid === origin.snapshot) === true;
  };
  return graph.sorted().flatMap((one) => (isThere(one) ? [] : [one.name]));
}

async function typesSince(from: number): Promise<string[]> {
  const types: string[] = [];
  for await (const events of alpha.node.history.events(alpha.node.history.ownStream(IMAGES), from)) {
    types.push(...events.map(({ type }) => type));
  }
  return types;
}

function nextSeq(): number {
  return (alpha.node.history.head(alpha.node.history.ownStream(IMAGES))?.seq ?? 0) + 1;
}

async function begin(): Promise<void> {
  world = new MemoryWorld();
  alpha = await world.start('alpha');
  await alpha.zfs.create(dataset('alpha/images'));
  await alpha.zfs.create(dataset('alpha/images/base'));
  await alpha.zfs.snapshot([at('alpha/images/base', '1'), at('alpha/images/base', '2')]).catch(() => undefined);
  await alpha.zfs.snapshot([at('alpha/images/base', '3')]);
  await alpha.node.trees.add({ tree: IMAGES, root: dataset('alpha/images') });
}

beforeEach(begin);

afterEach(() => world.stop());

describe('the observer', () => {
  it('agrees with ZFS after whatever people did with it', async () => {
    await fc.assert(
      fc.asyncProperty(deeds, async (history) => {
        await world.stop();
        await begin();
        for (const deed of history) {
          // What ZFS refuses did not happen; everything else must be noticed.
          await perform(alpha, deed).catch((error: unknown) => {
            if (!(error instanceof PandoError)) throw error;
          });
          if (deed.look === 'all') await look(alpha);
          if (deed.look === 'some') await lookAtSome(deed);
          expect(hangingOffNothing()).toEqual([]);
        }
        await look(alpha);
        expect(logged(alpha)).toEqual(picture(await alpha.zfs.list(dataset('alpha/images'))));
        expect((await look(alpha)).unnoticed).toBe(0);
      }),
      { numRuns: 40 },
    );
  });

  it('keeps ids through renames, and gives a dataset that was recreated under an old name a new one', async () => {
    const before = alpha.node.trees.graph(IMAGES).named('base' as never)?.id;
    await alpha.zfs.rename(dataset('alpha/images/base'), dataset('alpha/images/old'));
    await alpha.zfs.create(dataset('alpha/images/base'));
    await look(alpha);
    const graph = alpha.node.trees.graph(IMAGES);
    expect(graph.named('old' as never)?.id).toBe(before);
    expect(graph.named('base' as never)?.id).not.toBe(before);
  });

  it('tells where each is when a new dataset has taken a name, and one that was here went below it', async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await look(alpha);
    await alpha.zfs.rename(dataset('alpha/images/base'), dataset('alpha/images/old'));
    await alpha.zfs.create(dataset('alpha/images/base'));
    await alpha.zfs.rename(dataset('alpha/images/web'), dataset('alpha/images/base/web'));
    await look(alpha);
    const names = [...alpha.node.trees.graph(IMAGES).datasets.values()].map(({ name }) => name).sort();
    expect(names).toEqual(['', 'base', 'base/web', 'old']);
  });

  it('tells two datasets that changed places by renames alone', async () => {
    await alpha.zfs.create(dataset('alpha/images/web'));
    await look(alpha);
    const from = nextSeq();
    await alpha.zfs.rename(dataset('alpha/images/web'), dataset('alpha/images/aside'));
    await alpha.zfs.rename(dataset('alpha/images/base'), dataset('alpha/images/web'));
    await alpha.zfs.rename(dataset('alpha/images/aside'), dataset('alpha/images/base'));
    await look(alpha);
    expect(new Set(await typesSince(from))).toEqual(new Set(['dataset.renamed']));
  });

  it('tells a promote before the end of what it was promoted over, also where only these two are looked at', async () => {
    const { zfs } = alpha;
    await zfs.clone(at('alpha/images/base', '3'), dataset('alpha/images/middle'));
    await zfs.snapshot([at('alpha/images/middle', 'm')]);
    await zfs.clone(at('alpha/images/middle', 'm'), dataset('alpha/images/top'));
    await look(alpha);
    await zfs.promote(dataset('alpha/images/top'));
    await zfs.destroy(dataset('alpha/images/middle'));
    await alpha.node.observer.lookAt(watched(), ['top', 'middle'] as RelativeName[], 'observed');
    const graph = alpha.node.trees.graph(IMAGES);
    expect(graph.named('middle' as RelativeName)).toBeUndefined();
    expect(graph.named('top' as RelativeName)).toMatchObject({ snapshots: [{ name: 'm' }] });
    expect(graph.named('top' as RelativeName)?.origin?.dataset).toBe(graph.named('base' as RelativeName)?.id);
  });

  it('tells a promote as a promote', async () => {
    await alpha.zfs.clone(at('alpha/images/base', '3'), dataset('alpha/images/web'));
    await look(alpha);
    const from = nextSeq();
    await alpha.zfs.promote(dataset('alpha/images/web'));
    await look(alpha);
    expect(await typesSince(from)).toEqual(['dataset.promoted']);
  });

  it('tells a rollback as a rollback, but only where nothing is left of what came after', async () => {
    const base = 'alpha/images/base';
    const take = async (name: string) => {
      alpha.zfs.write(base, 'file', name);
      await alpha.zfs.snapshot([at(base, name)]);
    };
    for (const name of ['4', '5']) await take(name);
    await look(alpha);
    const from = nextSeq();
    await alpha.zfs.rollback(at(base, '3'), { destroyNewer: true });
    await look(alpha);
    expect(await typesSince(from)).toEqual(['dataset.rolled-back']);
    await take('6');
    await look(alpha);
    const later = nextSeq();
    await alpha.zfs.destroySnapshot(at(base, '6'));
    await look(alpha);
    expect(await typesSince(later)).toEqual(['snapshot.destroyed']);
  });

  it('does not take the id of a copy that carries the property along', async () => {
    const id = alpha.node.trees.graph(IMAGES).named('base' as never)?.id ?? '';
    await alpha.zfs.create(dataset('alpha/images/copy'), { 'pando:id': id });
    await look(alpha);
    const ids = alpha.node.trees
      .graph(IMAGES)
      .sorted()
      .map((one) => one.id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('tells changed, added and removed properties', async () => {
    const base = [dataset('alpha/images/base')];
    const properties = () => alpha.node.trees.graph(IMAGES).named('base' as never)?.properties;
    await alpha.zfs.setProperties(base, { 'team:owner': 'anna', compression: 'off' });
    await look(alpha);
    expect(properties()).toEqual({ 'team:owner': 'anna', compression: 'off' });
    await alpha.zfs.setProperties(base, { 'team:owner': 'bert' });
    await look(alpha);
    expect(properties()).toEqual({ 'team:owner': 'bert', compression: 'off' });
    await alpha.zfs.inheritProperty(base, 'compression');
    await look(alpha);
    expect(properties()).toEqual({ 'team:owner': 'bert' });
  });

  it('keeps the graph while the pool is exported, and says what is wrong', async () => {
    const before = alpha.node.trees.graph(IMAGES);
    alpha.zfs.exportPool('alpha');
    expect(await codeOf(look(alpha))).toBe('ZFS_NO_POOL');
    expect(alpha.node.trees.graph(IMAGES)).toBe(before);
    expect(alpha.node.observer.condition(IMAGES).error?.code).toBe('ZFS_NO_POOL');
    alpha.zfs.importPool('alpha');
    await look(alpha);
    expect(alpha.node.observer.condition(IMAGES).error).toBeNull();
    expect(alpha.warnings.length).toBe(1);
  });

  it('keeps the graph of an own tree whose root is gone, and says plainly what is wrong', async () => {
    const before = alpha.node.trees.graph(IMAGES);
    await alpha.zfs.rename(dataset('alpha/images'), dataset('alpha/pictures'));
    await expect(look(alpha)).rejects.toMatchObject({ code: 'TREE_ROOT_MISSING', evidence: { root: 'alpha/images' } });
    expect(alpha.node.trees.graph(IMAGES)).toBe(before);
    expect(alpha.node.observer.condition(IMAGES).error?.code).toBe('TREE_ROOT_MISSING');
    await alpha.zfs.rename(dataset('alpha/pictures'), dataset('alpha/images'));
    expect((await look(alpha)).ok).toBe(true);
    expect(alpha.node.observer.condition(IMAGES).error).toBeNull();
  });

  it('shares a look that waits, but never one that has begun', async () => {
    const [begun, answer] = [gate(), gate()];
    const { changeToken } = alpha.zfs;
    let asked = 0;
    alpha.zfs.changeToken = async (...words) => {
      asked += 1;
      begun.open();
      await answer.opened;
      return changeToken.apply(alpha.zfs, words);
    };
    const running = alpha.node.observer.look(watched());
    await begun.opened;
    await alpha.zfs.snapshot([at('alpha/images/base', 'meanwhile')]);
    const later = Array.from({ length: 10 }, () => alpha.node.observer.look(watched()));
    answer.open();
    await running;
    const found = await Promise.all(later);
    expect(asked).toBe(2);
    for (const events of found) expect(events).toBe(found[0]);
  });

  it('asks for no listing when ZFS tells that nothing changed', async () => {
    await look(alpha);
    const before = alpha.zfs.commandCount;
    await look(alpha);
    const afterOne = alpha.zfs.commandCount;
    expect(afterOne - before).toBeLessThanOrEqual(1);
  });
});
