/**
 * Datasets and what is known of them, brought together at a start: a crash can come between the two, and people have `zfs`.
 *
 * - A dataset that nothing is known of says itself what it was made for, and is known again.
 * - What was made in advance (`spares.ts`) and given to somebody says so now; the rest of it goes, unless it may be somebody's of whom nothing is known.
 * - What is known of a dataset that is gone is forgotten.
 * - What was committed and has no `@extracted` yet gets it: whoever committed it was done with writing.
 */
import { describeError, isPandoError } from '../../core/errors.ts';
import { absoluteName, type RelativeName, relativeTo } from '../../core/ids.ts';
import type { SnapshotKept } from '../../core/layer-events.ts';
import {
  EXTRACTED,
  isExtracted,
  layerOf,
  runtimeName,
  SNAPSHOT_PROPERTY,
  storageName,
} from '../../core/layers/layer-names.ts';
import type { ListedDataset } from '../../zfs/zfs.ts';
import { markOf, parseMark, SPARE_MARK, UNKNOWN_MARK } from './marks.ts';
import type { SnapshotParts } from './parts.ts';
import type { KeptSnapshot } from './snapshot-journal.ts';
import { destroySpare } from './spares.ts';

/** A clone that nothing was written to was seen to take 63 KB of a pool at most. */
const SPARE_BYTES_MAX = 256 * 1024;

/** Idempotent. Rejects as ZFS does where the store cannot be listed: then nothing is known to be gone. */
export async function repair(parts: SnapshotParts): Promise<void> {
  const listed = await datasetsOf(parts);
  const { tree } = parts.store();
  // Those of another store were not looked at
  const here = Array.from(parts.journal.all()).filter((kept) => kept.tree === tree);
  for (const kept of here) await repairKept(parts, kept, listed.get(kept.dataset));
  const known = new Set(Array.from(parts.journal.all(), ({ dataset }) => dataset));
  for (const [name, dataset] of listed) {
    if (known.has(name)) continue;
    if (isSpare(dataset)) await settleSpare(parts, name, dataset);
    else await adopt(parts, name, dataset, listed);
  }
}

async function datasetsOf({ store, zfs }: SnapshotParts): Promise<ReadonlyMap<RelativeName, ListedDataset>> {
  const { root, base } = store();
  const listed = new Map<RelativeName, ListedDataset>();
  for (const place of [storageName(base), runtimeName(base)]) {
    const datasets = await zfs.list(absoluteName(root, place)).catch((error: unknown) => {
      // A mirror has no `runtime` before the first container
      if (isPandoError(error, 'ZFS_NOT_FOUND')) return [];
      throw error;
    });
    for (const dataset of datasets) {
      const name = relativeTo(root, dataset.name);
      if (name !== undefined) listed.set(name, dataset);
    }
  }
  return listed;
}

async function repairKept(parts: SnapshotParts, kept: KeptSnapshot, dataset: ListedDataset | undefined): Promise<void> {
  const { journal, zfs, store, warn } = parts;
  const { key } = kept;
  if (dataset === undefined) {
    await journal.record([{ type: 'snapshotter.dropped', key }]);
    warn(`Snapshot "${key}" is forgotten: its dataset ${kept.dataset} is gone`, { key, dataset: kept.dataset });
    return;
  }
  if (kept.kind !== 'committed') {
    const mark = markOf(kept.kind, key);
    if (isSpare(dataset)) await attempt(parts, kept.dataset, () => setMark(parts, kept.dataset, mark));
    return;
  }
  if (isExtracted(dataset)) return;
  await attempt(parts, kept.dataset, async () => {
    await zfs.snapshot([{ dataset: absoluteName(store().root, kept.dataset), snapshot: EXTRACTED }]);
    warn(`Snapshot "${key}" was being committed when this node ended; it is now`, { key });
  });
}

function isSpare(dataset: ListedDataset): boolean {
  return dataset.properties[SNAPSHOT_PROPERTY] === SPARE_MARK && !isExtracted(dataset);
}

/**
 * What this journal gave to nobody goes. One that does not know what it is over is not the one that it was made with, and one from a backup has forgotten what happened since: so what was
 * written to stays as well.
 */
async function settleSpare(parts: SnapshotParts, name: RelativeName, dataset: ListedDataset): Promise<void> {
  const { store, zfs } = parts;
  await attempt(parts, name, async () => {
    const isOurs = parentOf(parts, dataset) !== undefined;
    // It waits for the transaction group, and with that for what was written to count
    await setMark(parts, name, SPARE_MARK);
    if (isOurs && (await zfs.used(absoluteName(store().root, name))) <= SPARE_BYTES_MAX) {
      await destroySpare(parts, name);
      return;
    }
    await setMark(parts, name, UNKNOWN_MARK);
    warnOfUnknown(parts, name);
  });
}

/** One dataset that cannot be put right keeps none of the others from it. */
async function attempt({ warn }: SnapshotParts, name: RelativeName, task: () => Promise<void>): Promise<void> {
  await task().catch((error: unknown) => {
    warn(`Dataset ${name} is as it was before this start: ${describeError(error)}`, { name });
  });
}

function setMark({ store, zfs }: SnapshotParts, dataset: RelativeName, mark: string): Promise<void> {
  return zfs.setProperties([absoluteName(store().root, dataset)], { [SNAPSHOT_PROPERTY]: mark });
}

/** The committed snapshot that a dataset is over. */
function parentOf({ journal, store }: SnapshotParts, { origin }: ListedDataset): KeptSnapshot | undefined {
  const below = origin === null ? undefined : relativeTo(store().root, origin.reference.dataset);
  return Array.from(journal.all()).find((kept) => kept.kind === 'committed' && kept.dataset === below);
}

function warnOfUnknown({ warn }: SnapshotParts, name: RelativeName): void {
  warn(`Dataset ${name} was made for a snapshot that nobody knows; it stays until somebody destroys it`, { name });
}

async function adopt(
  parts: SnapshotParts,
  name: RelativeName,
  dataset: ListedDataset,
  listed: ReadonlyMap<RelativeName, ListedDataset>,
): Promise<void> {
  const { journal, now, warn, store } = parts;
  const mark = parseMark(dataset.properties[SNAPSHOT_PROPERTY]);
  const own = listed.get(name);
  if (mark === undefined) return;
  if (isExtracted(own)) {
    // A layer that was committed, and whose snapshot containerd has removed since, is a layer like any other
    if (layerOf(store().base, name) === undefined)
      warn(`Dataset ${name} holds a committed snapshot that nobody knows; it stays until somebody destroys it`, {
        name,
      });
    return;
  }
  if (mark.key === null || journal.get(mark.key) !== undefined) return warnOfUnknown(parts, name);
  const at = String(now());
  const fact: SnapshotKept = {
    type: 'snapshotter.kept',
    key: mark.key,
    tree: store().tree,
    kind: mark.kind,
    parent: parentOf(parts, dataset)?.key ?? null,
    labels: {},
    createdAt: at,
    updatedAt: at,
    dataset: name,
    objects: null,
  };
  await journal.record([fact]);
  warn(`Dataset ${name} is snapshot "${mark.key}", of which the log knew nothing; its labels are lost`, {
    name,
    key: mark.key,
  });
}
