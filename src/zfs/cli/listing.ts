import { isPandoError } from '../../core/errors.ts';
import type { Bookmark } from '../../core/events.ts';
import { inOrder } from '../../core/graph/draft.ts';
import {
  type DatasetName,
  parseBookmarkName,
  parseDatasetName,
  parseSnapshotGuid,
  parseSnapshotName,
  type ResumeToken,
  type SnapshotGuid,
} from '../../core/ids.ts';
import type { ListedDataset, ListedSnapshot, SnapshotReference } from '../zfs.ts';
import type { Row } from './rows.ts';
import { detached } from './text.ts';

interface OpenDataset extends Omit<ListedDataset, 'origin' | 'properties' | 'snapshots' | 'bookmarks'> {
  readonly originName: string | null;
  readonly snapshots: ListedSnapshot[];
  readonly bookmarks: Bookmark[];
}

/** Puts rows together to datasets with their snapshots. */
export class Listing {
  readonly #datasets = new Map<string, OpenDataset>();
  readonly #guids = new Map<string, SnapshotGuid>();
  readonly #onSkipped: (name: string) => void;

  /** `onSkipped` hears of each dataset, snapshot or bookmark whose name Pando does not take. */
  constructor(onSkipped: (name: string) => void) {
    this.#onSkipped = onSkipped;
  }

  accept(row: Row): void {
    try {
      if (row.type === 'snapshot') this.#addSnapshot(row);
      else if (row.type === 'bookmark') this.#addBookmark(row);
      else if (row.type === 'filesystem' || row.type === 'volume') this.#addDataset(row, row.type);
    } catch (error) {
      if (!isPandoError(error, 'NAME_INVALID')) throw error;
      this.#onSkipped(row.name);
    }
  }

  #addDataset(row: Row, kind: 'filesystem' | 'volume'): void {
    this.#datasets.set(row.name, {
      name: parseDatasetName(row.name),
      kind,
      guid: parseSnapshotGuid(row.guid),
      createtxg: Number(row.createtxg),
      referenced: Number(row.referenced),
      written: row.written === '-' ? null : Number(row.written),
      encrypted: row.encryptionroot !== '-',
      resumeToken: row.receive_resume_token === '-' ? null : (row.receive_resume_token as ResumeToken),
      originName: row.origin === '-' || row.origin === '' ? null : row.origin,
      snapshots: [],
      bookmarks: [],
    });
  }

  #addBookmark(row: Row): void {
    const at = row.name.indexOf('#');
    this.#datasets.get(row.name.slice(0, at))?.bookmarks.push({
      guid: detached(parseSnapshotGuid(row.guid)),
      name: detached(parseBookmarkName(row.name.slice(at + 1))),
      createtxg: Number(row.createtxg),
    });
  }

  #addSnapshot(row: Row): void {
    const at = row.name.indexOf('@');
    const dataset = this.#datasets.get(row.name.slice(0, at));
    if (dataset === undefined) return;
    const snapshot = listedSnapshot(row);
    dataset.snapshots.push(snapshot);
    this.#guids.set(row.name, snapshot.guid);
  }

  /** Names of all datasets so far. */
  names(): DatasetName[] {
    return Array.from(this.#datasets.values(), ({ name }) => name);
  }

  /** Origins, by full name, that are not among the snapshots listed. */
  originsElsewhere(): string[] {
    const origins = Array.from(this.#datasets.values(), ({ originName }) => originName);
    return Array.from(new Set(origins.filter((name) => name !== null))).filter((name) => !this.#guids.has(name));
  }

  /** The datasets, parents first, with origins looked up among the snapshots listed and in `elsewhere`. */
  datasets(
    propertiesOf: (dataset: string) => Record<string, string>,
    elsewhere: ReadonlyMap<string, SnapshotGuid>,
  ): ListedDataset[] {
    return Array.from(this.#datasets.values(), ({ originName, snapshots, bookmarks, ...dataset }) => ({
      ...dataset,
      origin:
        originName === null
          ? null
          : {
              reference: snapshotReference(originName),
              guid: this.#guids.get(originName) ?? elsewhere.get(originName) ?? null,
            },
      properties: propertiesOf(dataset.name),
      snapshots: snapshots.sort((a, b) => a.createtxg - b.createtxg),
      bookmarks: inOrder(bookmarks),
    }));
  }
}

/** A snapshot from its row. Throws `NAME_INVALID` for a name that Pando does not take. */
export function listedSnapshot(row: Row): ListedSnapshot {
  return {
    guid: detached(parseSnapshotGuid(row.guid)),
    name: detached(parseSnapshotName(row.name.slice(row.name.indexOf('@') + 1))),
    createtxg: Number(row.createtxg),
    creation: Number(row.creation),
    referenced: Number(row.referenced),
    written: row.written === '-' ? null : Number(row.written),
    userrefs: row.userrefs === '-' ? 0 : Number(row.userrefs),
  };
}

/** Reads `dataset@snapshot` as ZFS printed it. */
function snapshotReference(name: string): SnapshotReference {
  const at = name.indexOf('@');
  return { dataset: parseDatasetName(name.slice(0, at)), snapshot: parseSnapshotName(name.slice(at + 1)) };
}
