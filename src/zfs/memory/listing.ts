import type { ListedDataset, ListedSnapshot } from '../zfs.ts';
import { bytesIn, bytesWritten, type MemoryDataset, type MemorySnapshot, predecessorOf } from './model.ts';
import { tokenFor } from './tokens.ts';

export function listedDataset(dataset: MemoryDataset): ListedDataset {
  const { name, guid, createtxg, origin, properties, snapshots, bookmarks, content, key } = dataset;
  return {
    name,
    kind: 'filesystem',
    guid,
    createtxg,
    referenced: bytesIn(content),
    written: bytesWritten(content, (snapshots.at(-1) ?? origin)?.content),
    origin:
      origin === null
        ? null
        : { reference: { dataset: origin.dataset.name, snapshot: origin.name }, guid: origin.guid },
    encrypted: key !== null,
    resumeToken: dataset.partial === null ? null : tokenFor(dataset.partial),
    properties: Object.fromEntries(properties),
    snapshots: snapshots.map(listedSnapshot),
    bookmarks: bookmarks.map(({ guid, name, createtxg }) => ({ guid, name, createtxg })),
  };
}

export function listedSnapshot(snapshot: MemorySnapshot): ListedSnapshot {
  const { guid, name, createtxg, creation, content, holds } = snapshot;
  return {
    guid,
    name,
    createtxg,
    creation,
    referenced: bytesIn(content),
    written: bytesWritten(content, predecessorOf(snapshot)?.content),
    userrefs: holds.size,
  };
}

/** What OpenZFS tells without listing snapshots, as one token. */
export function tokenOf(datasets: readonly MemoryDataset[]): string {
  const seen = datasets.map(({ name, guid, origin, properties, snapshotsChanged }) => {
    return [name, guid, origin?.guid ?? null, snapshotsChanged, Array.from(properties)];
  });
  return JSON.stringify(seen);
}
