/** The contract of `SnapshotService` in memory: snapshots are entries of a map, and nothing is mounted. */
import { PandoError } from '../../src/core/errors.ts';
import {
  LABEL_BYTES_MAX,
  type Labels,
  type Mount,
  SNAPSHOT_REF_LABEL,
  type SnapshotInfo,
  type SnapshotKind,
  type SnapshotUsage,
} from '../../src/core/snapshots/snapshot.ts';
import type { SnapshotService } from '../../src/features/snapshots/snapshot-service.ts';

/** When the first thing happens, in Unix nanoseconds; everything else takes a nanosecond. */
const BEGINNING = 1_700_000_000_123_456_788n;

export const USAGE: SnapshotUsage = { bytes: 4096, inodes: 3 };

function checkLabels(labels: Labels): void {
  for (const [label, value] of Object.entries(labels)) {
    if (Buffer.byteLength(label + value) <= LABEL_BYTES_MAX) continue;
    throw new PandoError(
      'ARGUMENT_INVALID',
      `The label ${label.slice(0, 10)}… is longer than ${LABEL_BYTES_MAX} bytes.`,
    );
  }
}

function changedLabels(before: Labels, asked: Labels, fields: readonly string[]): Labels {
  if (fields.length === 0) return asked;
  const after = new Map(Object.entries(before));
  for (const field of fields) {
    if (field === 'labels') {
      after.clear();
      for (const [label, value] of Object.entries(asked)) after.set(label, value);
    } else if (field.startsWith('labels.')) {
      const label = field.slice('labels.'.length);
      const value = asked[label] ?? '';
      if (value === '') after.delete(label);
      else after.set(label, value);
    } else throw new PandoError('ARGUMENT_INVALID', `The field "${field}" of a snapshot cannot change.`);
  }
  return Object.fromEntries(after);
}

export class MemorySnapshots implements SnapshotService {
  readonly #snapshots = new Map<string, SnapshotInfo>();
  readonly #layers: ReadonlySet<string>;
  #now = BEGINNING;
  /** How often what was removed has been destroyed. */
  cleanups = 0;

  /** `layers` are the ChainIDs that are here already. */
  constructor(layers: readonly string[] = []) {
    this.#layers = new Set(layers);
  }

  async prepare(key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]> {
    const layer = labels[SNAPSHOT_REF_LABEL];
    if (layer === undefined || !this.#layers.has(layer)) return this.#create('active', key, parent, labels);
    this.#add('committed', layer, parent, labels);
    throw new PandoError('SNAPSHOT_EXISTS', `The layer ${layer} is here already.`);
  }

  async view(key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]> {
    return this.#create('view', key, parent, labels);
  }

  async mounts(key: string): Promise<readonly Mount[]> {
    const { kind } = this.#get(key);
    if (kind === 'committed') throw new PandoError('SNAPSHOT_STATE', `Snapshot "${key}" is committed.`);
    return [{ type: 'zfs', source: `pool/${key}`, options: kind === 'view' ? ['ro'] : ['rw', 'noatime'] }];
  }

  async commit(name: string, key: string, labels: Labels): Promise<void> {
    const { kind, parent } = this.#get(key);
    if (kind !== 'active') throw new PandoError('SNAPSHOT_STATE', `Snapshot "${key}" is not active.`);
    this.#add('committed', name, parent, labels);
    this.#snapshots.delete(key);
  }

  async remove(key: string): Promise<void> {
    this.#get(key);
    const above = [...this.#snapshots.values()].find(({ parent }) => parent === key);
    if (above !== undefined) throw new PandoError('SNAPSHOT_STATE', `Snapshot "${above.key}" is over "${key}".`);
    this.#snapshots.delete(key);
  }

  async stat(key: string): Promise<SnapshotInfo> {
    return this.#get(key);
  }

  async update(key: string, labels: Labels, fields: readonly string[]): Promise<SnapshotInfo> {
    checkLabels(labels);
    const before = this.#get(key);
    this.#now += 1n;
    const after = { ...before, labels: changedLabels(before.labels, labels, fields), updatedAt: this.#now };
    this.#snapshots.set(key, after);
    return after;
  }

  async list(): Promise<readonly SnapshotInfo[]> {
    return [...this.#snapshots.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }

  async usage(key: string): Promise<SnapshotUsage> {
    this.#get(key);
    return USAGE;
  }

  async cleanup(): Promise<void> {
    this.cleanups += 1;
  }

  #get(key: string): SnapshotInfo {
    const found = this.#snapshots.get(key);
    if (found === undefined) throw new PandoError('SNAPSHOT_UNKNOWN', `There is no snapshot "${key}".`, { key });
    return found;
  }

  #create(kind: SnapshotKind, key: string, parent: string | null, labels: Labels): Promise<readonly Mount[]> {
    if (parent !== null && this.#get(parent).kind !== 'committed') {
      throw new PandoError('ARGUMENT_INVALID', `The parent "${parent}" is not committed.`);
    }
    this.#add(kind, key, parent, labels);
    return this.mounts(key);
  }

  #add(kind: SnapshotKind, key: string, parent: string | null, labels: Labels): void {
    checkLabels(labels);
    if (this.#snapshots.has(key)) throw new PandoError('SNAPSHOT_EXISTS', `There is a snapshot "${key}" already.`);
    this.#now += 1n;
    this.#snapshots.set(key, { kind, key, parent, labels, createdAt: this.#now, updatedAt: this.#now });
  }
}
