/** Where files of datasets would be, and what they take. */
import { type Content, type MemoryDataset, type MemoryFile, type MemoryPool, parentName } from './model.ts';
import { Refusal } from './refusal.ts';

/** The nearest `mountpoint` above with the rest of the name behind it, as zfsprops.7 has it. */
export function mountpointOf({
  pool,
  dataset,
}: {
  readonly pool: MemoryPool;
  readonly dataset: MemoryDataset;
}): string {
  const own = dataset.properties.get('mountpoint');
  if (own !== undefined) {
    if (own.startsWith('/')) return own;
    throw new Refusal('ZFS_UNSUPPORTED', `its mountpoint is ${own}`);
  }
  const parent = pool.datasets.get(parentName(dataset.name) ?? dataset.name);
  if (parent === undefined || parent === dataset) return `/${dataset.name}`;
  return `${mountpointOf({ pool, dataset: parent })}${dataset.name.slice(parent.name.length)}`;
}

/** Bytes of files that these datasets have, without those that they share with what they hang off elsewhere. */
export function usedBelow(datasets: readonly MemoryDataset[]): number {
  const own = new Set<MemoryFile>();
  for (const { content, snapshots } of datasets) {
    for (const files of [content, ...snapshots.map((snapshot) => snapshot.content)]) {
      for (const file of files.values()) own.add(file);
    }
  }
  for (const { origin } of datasets) {
    if (origin === null || datasets.includes(origin.dataset)) continue;
    for (const file of origin.content.values()) own.delete(file);
  }
  let bytes = 0;
  for (const file of own) bytes += file.bytes;
  return bytes;
}

/** Paths of files that are not the same on both sides. */
export function differingPaths(from: Content, to: Content): readonly Buffer[] {
  const paths = new Set([...from.keys(), ...to.keys()]);
  return Array.from(paths)
    .filter((path) => from.get(path) !== to.get(path))
    .map((path) => Buffer.from(path));
}
