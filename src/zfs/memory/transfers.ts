/** Sending and receiving: which records a request produces, and what a received record does to the pool. */
import type { DatasetName } from '../../core/ids.ts';
import { PLACEHOLDER_PROPERTY } from '../../core/plan/steps.ts';
import { flagsBeyond, parseFlags, type StreamFlags, writtenFlags } from '../../core/stream-flags.ts';
import { differenceTo } from '../begin-check.ts';
import type { BookmarkReference, ReceiveRequest, SendRequest, SnapshotReference } from '../zfs.ts';
import { bookmarkNamed } from './bookmarks.ts';
import { addSnapshot, hasSnapshot } from './changes.ts';
import {
  bytesWritten,
  type Content,
  descendantsOf,
  type MemoryDataset,
  type MemoryFile,
  type MemoryKey,
  type MemoryPartial,
  type MemoryPool,
  type MemorySnapshot,
  newFile,
  parentName,
  predecessorOf,
} from './model.ts';
import { type MemoryPools, nextTxg, requireKey, requireSpace } from './pools.ts';
import { Refusal } from './refusal.ts';
import type { StreamBegin, StreamRecord } from './stream-format.ts';

/** One snapshot of a stream and what it builds on. */
export interface SendStep {
  readonly from: Pick<MemorySnapshot, 'guid' | 'content' | 'ivset' | 'dataset'> | null;
  readonly to: MemorySnapshot;
}

/** The snapshots that a send produces, in order. Refuses a base that is not in the snapshot's past. */
export function sendSteps(pools: MemoryPools, request: SendRequest): SendStep[] {
  const { snapshot } = pools.snapshot(request.snapshot);
  if (request.base === null) return [{ from: null, to: snapshot }];
  if ('bookmark' in request.base) return [{ from: requireBookmark(pools, request.base, snapshot), to: snapshot }];
  const base = requireBase(pools, request.base);
  const past = pastOf(snapshot);
  const end = past.indexOf(base);
  if (end < 0) {
    throw new Refusal('ZFS_BASE_MISSING', `'${base.dataset.name}@${base.name}' is not an earlier snapshot of it`);
  }
  if (!request.base.intermediates) return [{ from: base, to: snapshot }];
  // `-I` runs within one dataset, from one of its snapshots or its origin (zfs-send.8)
  if (base.dataset !== snapshot.dataset && snapshot.dataset.origin !== base) {
    throw new Refusal('ZFS_BASE_MISSING', `'${base.dataset.name}@${base.name}' is not the origin`);
  }
  const chain = [snapshot, ...past.slice(0, end + 1)].reverse();
  return chain.slice(1).map((to, index) => ({ from: chain[index] ?? null, to }));
}

function requireBase(pools: MemoryPools, reference: SnapshotReference): MemorySnapshot {
  const base = pools.find(reference.dataset)?.dataset.snapshots.find(({ name }) => name === reference.snapshot);
  if (base !== undefined) return base;
  throw new Refusal('ZFS_BASE_MISSING', `'${reference.dataset}@${reference.snapshot}' does not exist`);
}

function requireBookmark(
  pools: MemoryPools,
  { dataset: name, bookmark: label }: BookmarkReference,
  to: MemorySnapshot,
): SendStep['from'] {
  const dataset = pools.find(name)?.dataset;
  const bookmark = dataset === undefined ? undefined : bookmarkNamed(dataset, label);
  if (bookmark === undefined) throw new Refusal('ZFS_BASE_MISSING', `'${name}#${label}' does not exist`);
  if (dataset !== to.dataset || bookmark.createtxg >= to.createtxg) {
    throw new Refusal('ZFS_BASE_MISSING', `'${name}#${label}' is not of an earlier snapshot of it`);
  }
  return { ...bookmark, dataset };
}

/** The snapshots before this one, nearest first, through its dataset's origin and that one's. */
function pastOf(snapshot: MemorySnapshot): MemorySnapshot[] {
  const past: MemorySnapshot[] = [];
  for (let each = predecessorOf(snapshot); each !== undefined; each = predecessorOf(each)) past.push(each);
  return past;
}

/** Bytes of payload that the steps carry. */
export function payloadBytes(steps: readonly SendStep[]): number {
  return steps.reduce((bytes, { from, to }) => bytes + bytesWritten(to.content, from?.content), 0);
}

/** Refuses to send what is encrypted without its key, unless raw. */
export function requireSendable(steps: readonly SendStep[], flags: StreamFlags): void {
  if (!flags.raw) for (const { to } of steps) requireKey(to.dataset.key, to.dataset.name);
}

export function* recordsOf(steps: readonly SendStep[], flags: StreamFlags, skipped = 0): Generator<StreamRecord> {
  for (const step of steps) {
    yield beginOf(step, { flags, skipped, several: steps.length > 1 });
    let index = 0;
    for (const record of changesOf(step)) {
      if (index >= skipped) yield record;
      index += 1;
    }
    yield { kind: 'end' };
  }
}

/** What leads from one snapshot to the next, in the same order each time. */
function* changesOf({ from, to }: SendStep): Generator<StreamRecord> {
  for (const [path, { text }] of to.content) {
    if (from?.content.get(path) !== to.content.get(path)) yield { kind: 'file', path, text };
  }
  for (const path of from?.content.keys() ?? []) if (!to.content.has(path)) yield { kind: 'removed', path };
}

/** How a stream is made, the same for each of its snapshots. */
interface Making extends Pick<StreamBegin, 'skipped' | 'several'> {
  readonly flags: StreamFlags;
}

function beginOf({ from, to }: SendStep, { flags, skipped, several }: Making): StreamBegin {
  const raw = flags.raw && to.dataset.key !== null;
  return {
    kind: 'begin',
    fromGuid: from?.guid ?? null,
    toGuid: to.guid,
    toName: to.name,
    creation: to.creation,
    clone: from !== null && from.dataset !== to.dataset,
    flags: writtenFlags({ ...flags, raw }),
    skipped,
    several,
    fromIvset: raw ? (from?.ivset ?? null) : null,
    toIvset: raw ? to.ivset : null,
  };
}

/** The snapshot that a stream is bringing. */
interface Arrival {
  readonly begin: StreamBegin;
  readonly base: MemorySnapshot | null;
  readonly key: MemoryKey | null;
  readonly content: Map<string, MemoryFile>;
  bytes: number;
  /** Number of files that came, or were removed. */
  records: number;
}

/** One running receive. Nothing is visible of a snapshot before its end record; a first receive shows nothing before that either. */
export class MemoryReceive {
  readonly #pools: MemoryPools;
  readonly #request: ReceiveRequest;
  /** The flags of streams that this ZFS takes. */
  readonly #possible: StreamFlags;
  readonly #pool: MemoryPool;
  #dataset: MemoryDataset | null;
  #arrival: Arrival | null = null;
  /** Whether a snapshot of the stream has begun: only the first one can be a clone's. */
  #started = false;

  constructor(pools: MemoryPools, request: ReceiveRequest, possible: StreamFlags) {
    this.#possible = possible;
    this.#pools = pools;
    this.#request = request;
    if (request.create === null || request.overPlaceholder) {
      const { pool, dataset } = pools.dataset(request.target);
      if (request.overPlaceholder) requirePlaceholder(dataset);
      if (dataset.receiving) throw new Refusal('ZFS_BUSY', `'${request.target}' is being received already`);
      dataset.receiving = true;
      this.#pool = pool;
      this.#dataset = dataset;
    } else {
      this.#pool = pools.poolForNew(request.target);
      this.#pool.arriving.add(request.target);
      this.#dataset = null;
    }
  }

  /** Takes the next record of the stream. */
  accept(record: StreamRecord): void {
    switch (record.kind) {
      case 'begin':
        this.#arrival = this.#begin(record);
        return;
      case 'file':
        this.#store(record.path, newFile(record.text));
        return;
      case 'removed':
        this.#current().content.delete(record.path);
        this.#current().records += 1;
        return;
      case 'end':
        this.#commit(this.#current());
        this.#leaveArrival();
    }
  }

  /** Gives the name free, whatever came of it. What was not committed is gone, unless it is to be kept. */
  close(): void {
    if (this.#arrival !== null && this.#request.keepPartial) this.#keep(this.#arrival);
    this.#leaveArrival();
    this.#pool.arriving.delete(this.#request.target);
    if (this.#dataset !== null) this.#dataset.receiving = false;
  }

  #keep({ begin, base, key, content, records }: Arrival): void {
    const { target, create } = this.#request;
    this.#pool.arriving.delete(target);
    if (this.#dataset === null) {
      const empty = base?.content ?? new Map();
      this.#dataset = this.#pools.addDataset(this.#pool, { name: target, origin: base, key, content: empty });
      for (const [name, value] of Object.entries(create?.properties ?? {})) this.#dataset.properties.set(name, value);
    }
    this.#dataset.partial = { begin, base, key, content, records };
  }

  #leaveArrival(): void {
    const base = this.#arrival?.base ?? null;
    if (base !== null) base.streams -= 1;
    this.#arrival = null;
  }

  #current(): Arrival {
    if (this.#arrival === null) throw new Refusal('ZFS_STREAM_INVALID', 'a record outside a snapshot');
    return this.#arrival;
  }

  #begin(begin: StreamBegin): Arrival {
    this.#requireExpected(begin);
    const beyond = flagsBeyond(parseFlags(begin.flags), this.#possible);
    if (beyond !== '') throw new Refusal('ZFS_UNSUPPORTED', `streams made with ${beyond} are not taken`);
    const resumed = this.#resumed(begin);
    const base = resumed?.base ?? (resumed === null ? this.#baseOf(begin) : null);
    const key = resumed?.key ?? (resumed === null ? this.#keyFor(begin, base) : null);
    this.#started = true;
    if (base !== null) base.streams += 1;
    return { begin, base, key, content: resumed?.content ?? new Map(base?.content), bytes: 0, records: begin.skipped };
  }

  /** What the stream goes on with; null for one that begins at the beginning, which nothing partial may be in the way of. */
  #resumed(begin: StreamBegin): MemoryPartial | null {
    const partial = this.#dataset?.partial ?? null;
    if (partial === null && begin.skipped === 0) return null;
    if (partial?.begin.toGuid === begin.toGuid && partial.records === begin.skipped) {
      return { ...partial, content: new Map(partial.content) };
    }
    if (begin.skipped === 0) {
      throw new Refusal('ZFS_BUSY', `'${this.#request.target}' contains partially-complete state`);
    }
    throw new Refusal('ZFS_STREAM_MISMATCH', `'${this.#request.target}' has no such partial state`);
  }

  #requireExpected({ toGuid, fromGuid, flags, several }: StreamBegin): void {
    const { expected } = this.#request;
    if (this.#started || expected === null) return;
    const found = { toGuid, fromGuid, raw: parseFlags(flags).raw, several };
    const difference = differenceTo(expected, found);
    if (difference !== undefined) throw new Refusal('ZFS_STREAM_MISMATCH', difference, { expected, found });
  }

  /** The key of what arrives: that of a raw stream's dataset comes with its first one, and is not loaded (dsl_crypt.c). */
  #keyFor(begin: StreamBegin, base: MemorySnapshot | null): MemoryKey | null {
    const { target } = this.#request;
    const isRaw = parseFlags(begin.flags).raw;
    if (base === null && isRaw && this.#dataset !== null) {
      throw new Refusal('ZFS_STREAM_MISMATCH', `'${target}' is not encrypted, and cannot become so`);
    }
    if (base === null && isRaw) return { isLoaded: false };
    const above = parentName(target);
    const parent = above === undefined ? undefined : this.#pool.datasets.get(above);
    const key = base === null ? (parent?.key ?? null) : base.dataset.key;
    if (isRaw && key === null) throw new Refusal('ZFS_STREAM_MISMATCH', `a raw stream onto '${target}', not encrypted`);
    if (isRaw && base?.ivset !== begin.fromIvset) throw new Refusal('ZFS_STREAM_MISMATCH', 'IV set guid mismatch');
    if (!isRaw) requireKey(key, target);
    return key;
  }

  #baseOf(begin: StreamBegin): MemorySnapshot | null {
    if (this.#dataset === null) return this.#baseOfNew(begin);
    if (this.#request.overPlaceholder && !this.#started && begin.fromGuid === null) return null;
    return this.#baseOfIncrement(this.#dataset, begin);
  }

  /** For a dataset that does not exist yet: nothing for a full stream, the origin for a clone's. */
  #baseOfNew(begin: StreamBegin): MemorySnapshot | null {
    if (begin.fromGuid === null) return null;
    if (!begin.clone) throw new Refusal('ZFS_NOT_FOUND', `destination '${this.#request.target}' does not exist`);
    const named = this.#request.create?.origin ?? null;
    const origin = named === null ? this.#nearest(begin) : this.#pools.snapshot(named).snapshot;
    if (origin === undefined || origin.guid !== begin.fromGuid) {
      throw new Refusal(
        'ZFS_BASE_MISSING',
        `local origin for clone '${this.#request.target}@${begin.toName}' does not exist`,
      );
    }
    return origin;
  }

  /** Searches the parent with all below it, then the grandparent and so on, like guid_to_name in libzfs_sendrecv.c. */
  #nearest(begin: StreamBegin): MemorySnapshot | undefined {
    for (let name = parentName(this.#request.target); name !== undefined; name = parentName(name)) {
      const root = this.#pool.datasets.get(name);
      const found = [...(root === undefined ? [] : [root]), ...descendantsOf(this.#pool, name)]
        .flatMap(({ snapshots }) => snapshots)
        .find(({ guid }) => guid === begin.fromGuid);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  #baseOfIncrement(dataset: MemoryDataset, begin: StreamBegin): MemorySnapshot {
    if (begin.fromGuid === null || (begin.clone && !this.#started)) {
      throw new Refusal('ZFS_DATASET_EXISTS', `destination '${dataset.name}' exists`);
    }
    const newest = dataset.snapshots.at(-1);
    if (newest === undefined || newest.guid !== begin.fromGuid) {
      throw new Refusal(
        'ZFS_BASE_MISSING',
        `most recent snapshot of '${dataset.name}' does not match incremental source`,
      );
    }
    if (dataset.content !== newest.content) {
      throw modifiedRefusal(dataset);
    }
    if (hasSnapshot(dataset, begin.toName)) {
      throw new Refusal('ZFS_DATASET_EXISTS', `'${dataset.name}@${begin.toName}' exists`);
    }
    return newest;
  }

  #store(path: string, file: MemoryFile): void {
    const arrival = this.#current();
    arrival.bytes += file.bytes;
    requireSpace(this.#pool, arrival.bytes);
    arrival.content.set(path, file);
    arrival.records += 1;
  }

  #commit(arrival: Arrival): void {
    const content: Content = arrival.content;
    // The check comes again at the end: the receive worked on a hidden clone, which is swapped in now (dsl_dataset_clone_swap_check_impl)
    if (this.#dataset !== null && arrival.base !== null && this.#dataset.content !== arrival.base.content) {
      throw modifiedRefusal(this.#dataset);
    }
    const dataset = this.#dataset ?? this.#createTarget(arrival, content);
    dataset.content = content;
    dataset.partial = null;
    for (const [name, value] of Object.entries(this.#request.create?.properties ?? {}))
      dataset.properties.set(name, value);
    if (this.#request.overPlaceholder) dataset.properties.delete(PLACEHOLDER_PROPERTY);
    addSnapshot(dataset, {
      guid: arrival.begin.toGuid,
      ivset: arrival.key === null ? null : (arrival.begin.toIvset ?? this.#pools.newGuid()),
      name: this.#request.create?.snapshot ?? arrival.begin.toName,
      createtxg: nextTxg(this.#pool),
      creation: arrival.begin.creation,
      content,
    });
  }

  #createTarget(arrival: Arrival, content: Content): MemoryDataset {
    const name: DatasetName = this.#request.target;
    this.#pool.arriving.delete(name);
    this.#pools.poolForNew(name);
    const dataset = this.#pools.addDataset(this.#pool, { name, origin: arrival.base, key: arrival.key, content });
    dataset.receiving = true;
    this.#dataset = dataset;
    return dataset;
  }
}

function requirePlaceholder({ name, properties, snapshots, content }: MemoryDataset): void {
  const isMarked = properties.get(PLACEHOLDER_PROPERTY) === 'on' && properties.get('canmount') === 'off';
  if (isMarked && snapshots.length === 0 && content.size === 0) return;
  throw new Refusal('ZFS_DATASET_EXISTS', `'${name}' exists and is no empty placeholder`);
}

function modifiedRefusal({ name }: MemoryDataset): Refusal {
  return new Refusal('ZFS_MODIFIED', `'${name}' has been modified since its newest snapshot`);
}

/** Whether a stream runs from or into the pool: it cannot be exported then. */
export function isStreaming({ datasets, arriving }: MemoryPool): boolean {
  return (
    arriving.size > 0 ||
    Array.from(datasets.values()).some(
      ({ receiving, snapshots }) => receiving || snapshots.some(({ streams }) => streams > 0),
    )
  );
}
