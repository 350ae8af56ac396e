/** What tests of containerd's snapshots ask of a node in memory. */
import { expect } from 'vitest';
import type { DatasetName, RelativeName } from '../../../src/core/ids.ts';
import type { LayerWorld } from '../layers/layer-world.ts';

/** A committed snapshot over another. */
export async function committed(world: LayerWorld, name: string, parent: string | null = null): Promise<string> {
  await world.node.node.snapshots.prepare(`${name} being made`, parent, {});
  await world.node.node.snapshots.commit(name, `${name} being made`, {});
  return name;
}

/** The dataset that holds what is mounted so. */
export function datasetOf(world: LayerWorld, [mount]: readonly { readonly source: string }[]): DatasetName {
  return (mount?.source ?? '').slice(world.directory.length + 1) as DatasetName;
}

/** Datasets that are nobody's yet. */
export async function spares(world: LayerWorld): Promise<DatasetName[]> {
  const listed = await world.node.zfs.list('tank/images' as DatasetName);
  return listed.flatMap(({ name, properties }) => (properties['pando:snapshot'] === 'spare' ? [name] : []));
}

/** What a dataset says that it was made for. */
export async function markOf(world: LayerWorld, dataset: DatasetName): Promise<string | undefined> {
  const [listed] = await world.node.zfs.listOnly([dataset]);
  return listed?.properties['pando:snapshot'];
}

/** The dataset of a committed snapshot. */
export async function datasetNamed(world: LayerWorld, key: string): Promise<DatasetName> {
  await world.node.node.snapshots.view(`looking at ${key}`, key, {});
  const mounts = await world.node.node.snapshots.mounts(`looking at ${key}`);
  const [listed] = await world.node.zfs.listOnly([datasetOf(world, mounts)]);
  await world.node.node.snapshots.remove(`looking at ${key}`);
  return listed?.origin?.reference.dataset as DatasetName;
}

/** Each snapshot has a dataset that is what it says, and each dataset that was made for one has one. */
export async function expectAgreement(world: LayerWorld): Promise<void> {
  const listed = await world.node.zfs.list('tank/images' as DatasetName);
  const made = listed.filter(({ properties }) => properties['pando:snapshot'] !== undefined);
  for (const { name } of made) {
    const relative = name.slice('tank/images/'.length) as RelativeName;
    expect([name, world.node.node.snapshots.isKeptIn(relative)]).toEqual([name, true]);
  }
  for (const info of await world.node.node.snapshots.list()) {
    if (info.kind === 'committed') await world.node.node.snapshots.prepare(`over ${info.key}`, info.key, {});
    else expect(await world.node.node.snapshots.mounts(info.key)).toHaveLength(1);
  }
  for (const info of await world.node.node.snapshots.list()) {
    if (info.key.startsWith('over ')) await world.node.node.snapshots.remove(info.key);
  }
}
