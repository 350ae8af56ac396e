import { mkdir } from 'node:fs/promises';
import type { Properties } from '../../core/events.ts';
import {
  type BookmarkName,
  type DatasetName,
  type HoldTag,
  parseDatasetName,
  type ResumeToken,
  type SnapshotName,
} from '../../core/ids.ts';
import { flagsBeyond, parseFlags, RAW_STREAM, writtenFlags } from '../../core/stream-flags.ts';
import { type Attempt, firstOf, zfsFailure } from '../failure.ts';
import type {
  BookmarkReference,
  HoldReference,
  ListedDataset,
  ListedSnapshot,
  ReceiveRequest,
  ReceiveSource,
  ResumePoint,
  SendRequest,
  SendTarget,
  SnapshotReference,
  StreamResult,
  Zfs,
  ZfsCapabilities,
} from '../zfs.ts';
import { attempted, streamFailure } from './attempts.ts';
import { bookmarkSnapshot, destroyBookmark } from './bookmarks.ts';
import {
  cloneSnapshot,
  destroyDataset,
  destroySnapshot,
  promoteClone,
  renameDataset,
  renameSnapshot,
  rollBack,
  takeSnapshots,
} from './changes.ts';
import { nextSequence, tickingClock } from './defaults.ts';
import { holdWords, placeHold, releaseHold } from './holds.ts';
import { listedDataset, listedSnapshot, tokenOf } from './listing.ts';
import { descendantsOf, effectiveProperty, type MemoryDataset, newFile, parentName } from './model.ts';
import { differingPaths, mountpointOf, usedBelow } from './mounts.ts';
import { MemoryPools, nextTxg, requireKey, requireSpace } from './pools.ts';
import { checkProperties } from './properties.ts';
import { Refusal } from './refusal.ts';
import type { StreamRecord } from './stream-format.ts';
import { streamIn, streamOut } from './streaming.ts';
import { parseToken, resumedStep } from './tokens.ts';
import {
  isStreaming,
  MemoryReceive,
  payloadBytes,
  recordsOf,
  requireSendable,
  type SendStep,
  sendSteps,
} from './transfers.ts';

export interface MemoryZfsOptions {
  /** Source of guids: 64 random bits per call. By default a sequence that differs for each MemoryZfs of a process. */
  readonly random?: () => bigint;
  /** Unix time in ms. By default a clock that advances by one second whenever it is read. */
  readonly now?: () => number;
  /** To play a ZFS that can do less. What is switched off here is really not done. */
  readonly capabilities?: Partial<ZfsCapabilities>;
  /**
   * Called before each command does anything, with what `zfs` would be called with. What it throws becomes the command's failure,
   * and what it awaits delays it.
   */
  readonly onCommand?: (command: readonly string[]) => void | Promise<void>;
  /** A directory in which what is mounted has one of its own, empty: its files are in memory all the same. Without, the directories are not there. */
  readonly mountRoot?: string;
}

const CAPABILITIES: ZfsCapabilities = {
  dialect: 'memory',
  version: 'memory',
  receiveProperties: true,
  sendEstimate: true,
  snapshotsChanged: true,
  listHolds: true,
  bookmarks: true,
  resumableReceive: true,
  volumes: false,
  diff: true,
  streamFlags: RAW_STREAM,
};

/**
 * A ZFS in memory with the rules of the real one, for tests and simulations. Beside the port it has what a person does at a
 * shell: pools and files in datasets.
 */
export class MemoryZfs implements Zfs {
  readonly #pools: MemoryPools;
  readonly #capabilities: ZfsCapabilities;
  readonly #onCommand: (command: readonly string[]) => void | Promise<void>;
  readonly #mountRoot: string | null;
  #asked = false;
  #commandCount = 0;

  constructor(options: MemoryZfsOptions = {}) {
    this.#pools = new MemoryPools(options.random ?? nextSequence(), options.now ?? tickingClock());
    this.#capabilities = { ...CAPABILITIES, ...options.capabilities };
    this.#onCommand = options.onCommand ?? (() => undefined);
    this.#mountRoot = options.mountRoot ?? null;
  }

  /** Number of commands so far: what would have been a process each. */
  get commandCount(): number {
    return this.#commandCount;
  }

  /** Creates a pool with its root dataset. Throws `ZFS_DATASET_EXISTS`. */
  addPool(name: string, { capacityBytes = null }: { readonly capacityBytes?: number | null } = {}): void {
    this.#byHand(`create pool ${name}`, () => this.#pools.add(parseDatasetName(name), capacityBytes));
  }

  /** Takes a pool away as `zpool export` does. Throws `ZFS_BUSY` while a stream runs from or to it. */
  exportPool(name: string): void {
    this.#byHand(`export ${name}`, () => {
      const pool = this.#pools.poolFor(parseDatasetName(name));
      if (isStreaming(pool)) throw new Refusal('ZFS_BUSY', 'a stream is running');
      pool.imported = false;
    });
  }

  importPool(name: string): void {
    this.#byHand(`import ${name}`, () => {
      this.#pools.known(name).imported = true;
    });
  }

  /** Creates a filesystem with a key of its own, which is loaded. What is created below and what is cloned from it has the same key. */
  createEncrypted(name: string): void {
    this.#byHand(`create ${name}`, () => {
      const target = parseDatasetName(name);
      const pool = this.#pools.poolForNew(target);
      this.#pools.addDataset(pool, { name: target, origin: null, key: { isLoaded: true }, content: new Map() });
    });
  }

  /** Loads the key of a dataset, or unloads it. There is no wrong key here. */
  setKeyLoaded(name: string, isLoaded: boolean): void {
    this.#byHand(`load the key of ${name}`, () => {
      const { key } = this.#pools.dataset(parseDatasetName(name)).dataset;
      if (key !== null) key.isLoaded = isLoaded;
    });
  }

  /** Writes a file of a dataset. Throws `ZFS_PERMISSION` where `readonly` is on, `ZFS_OUT_OF_SPACE`. */
  write(name: string, path: string, text: string): void {
    this.#byHand(`write to ${name}`, () => {
      const file = newFile(text);
      requireSpace(this.#pools.poolFor(parseDatasetName(name)), file.bytes);
      const dataset = this.#writable(name);
      dataset.content = new Map(dataset.content).set(path, file);
    });
  }

  /** Removes a file of a dataset, if it is there. Throws `ZFS_PERMISSION` where `readonly` is on. */
  remove(name: string, path: string): void {
    this.#byHand(`write to ${name}`, () => {
      const dataset = this.#writable(name);
      const content = new Map(dataset.content);
      content.delete(path);
      dataset.content = content;
    });
  }

  /** Text of a file of a dataset, or undefined when there is none. */
  read(name: string, path: string): string | undefined {
    return this.contentsOf(name)[path];
  }

  /** Texts by path of a dataset, or of a snapshot (`dataset@snapshot` or a reference). */
  contentsOf(place: string | SnapshotReference): Record<string, string> {
    return this.#byHand('read', () => {
      const [dataset = '', snapshot] =
        typeof place === 'string' ? place.split('@') : [place.dataset as string, place.snapshot as string];
      const name = parseDatasetName(dataset);
      requireKey(this.#pools.dataset(name).dataset.key, name);
      const { content } =
        snapshot === undefined
          ? this.#pools.dataset(name).dataset
          : this.#pools.snapshot({ dataset: name, snapshot: snapshot as SnapshotName }).snapshot;
      return Object.fromEntries(Array.from(content, ([path, { text }]) => [path, text]));
    });
  }

  /** Nothing runs outside, and a node that starts again finds the same pools. */
  async close(): Promise<void> {}

  async capabilities(): Promise<ZfsCapabilities> {
    if (!this.#asked) await this.#command('ask for the version', ['version'], () => undefined);
    this.#asked = true;
    return this.#capabilities;
  }

  list(root: DatasetName, signal?: AbortSignal): Promise<ListedDataset[]> {
    return this.#command(`list ${root}`, ['list', '-r', root], () => this.#subtree(root).map(listedDataset), signal);
  }

  listOnly(names: readonly DatasetName[], signal?: AbortSignal): Promise<ListedDataset[]> {
    return this.#command(
      `list ${firstOf(names)}`,
      ['list', ...names],
      () =>
        names.flatMap((name) => {
          const located = this.#pools.find(name);
          return located === undefined ? [] : [listedDataset(located.dataset)];
        }),
      signal,
    );
  }

  listSnapshots(snapshots: readonly SnapshotReference[], signal?: AbortSignal): Promise<(ListedSnapshot | null)[]> {
    const names = snapshots.map(written);
    return this.#command(
      `list ${firstOf(names)}`,
      ['list', '-t', 'snapshot', ...names],
      () =>
        snapshots.map(({ dataset, snapshot: name }) => {
          const found = this.#pools.find(dataset)?.dataset.snapshots.find((snapshot) => snapshot.name === name);
          return found === undefined ? null : listedSnapshot(found);
        }),
      signal,
    );
  }

  async changeToken(root: DatasetName, signal?: AbortSignal): Promise<string | null> {
    if (!this.#capabilities.snapshotsChanged) return null;
    return this.#command(
      `list ${root}`,
      ['list', '-o', 'snapshots_changed'],
      () => tokenOf(this.#subtree(root)),
      signal,
    );
  }

  pools(): Promise<string[]> {
    return this.#command('list pools', ['list', '-d', '0'], () => this.#pools.names());
  }

  create(name: DatasetName, properties: Properties = {}): Promise<void> {
    return this.#command(`create ${name}`, ['create', name], () => {
      checkProperties(properties);
      const pool = this.#pools.poolForNew(name);
      const key = pool.datasets.get(parentName(name) ?? name)?.key ?? null;
      requireKey(key, name);
      setAll(this.#pools.addDataset(pool, { name, origin: null, key, content: new Map() }), properties);
    });
  }

  snapshot(snapshots: readonly SnapshotReference[]): Promise<void> {
    const names = snapshots.map(written);
    return this.#command(`snapshot ${firstOf(names)}`, ['snapshot', ...names], () =>
      takeSnapshots(this.#pools, snapshots),
    );
  }

  clone(origin: SnapshotReference, target: DatasetName, properties: Properties = {}): Promise<void> {
    return this.#command(`clone ${written(origin)} to ${target}`, ['clone', written(origin), target], () => {
      checkProperties(properties);
      setAll(cloneSnapshot(this.#pools, origin, target), properties);
    });
  }

  promote(name: DatasetName): Promise<void> {
    return this.#command(`promote ${name}`, ['promote', name], () => promoteClone(this.#pools, name));
  }

  rename(from: DatasetName, to: DatasetName): Promise<void> {
    return this.#command(`rename ${from} to ${to}`, ['rename', from, to], () => renameDataset(this.#pools, from, to));
  }

  renameSnapshot(from: SnapshotReference, to: SnapshotName): Promise<void> {
    return this.#command(`rename ${written(from)} to ${to}`, ['rename', written(from), to], () =>
      renameSnapshot(this.#pools, from, to),
    );
  }

  destroy(name: DatasetName): Promise<void> {
    return this.#command(`destroy ${name}`, ['destroy', name], () => destroyDataset(this.#pools, name));
  }

  bookmark(snapshot: SnapshotReference, name: BookmarkName): Promise<void> {
    return this.#command(
      `bookmark ${written(snapshot)}`,
      ['bookmark', written(snapshot), `${snapshot.dataset}#${name}`],
      () => {
        this.#requireBookmarks();
        bookmarkSnapshot(this.#pools, snapshot, name);
      },
    );
  }

  destroyBookmark(reference: BookmarkReference): Promise<void> {
    const name = `${reference.dataset}#${reference.bookmark}`;
    return this.#command(`destroy ${name}`, ['destroy', name], () => {
      this.#requireBookmarks();
      destroyBookmark(this.#pools, reference);
    });
  }

  #requireBookmarks(): void {
    if (!this.#capabilities.bookmarks) throw new Refusal('ZFS_UNSUPPORTED', 'it has no bookmarks');
  }

  destroySnapshot(snapshot: SnapshotReference): Promise<void> {
    return this.#command(`destroy ${written(snapshot)}`, ['destroy', written(snapshot)], () =>
      destroySnapshot(this.#pools, snapshot),
    );
  }

  rollback(snapshot: SnapshotReference, options: { readonly destroyNewer: boolean }): Promise<void> {
    const name = written(snapshot);
    return this.#command(`roll back to ${name}`, ['rollback', '-r', name], () =>
      rollBack(this.#pools, snapshot, options),
    );
  }

  setProperties(names: readonly DatasetName[], properties: Properties): Promise<void> {
    return this.#command(`set properties of ${firstOf(names)}`, ['set', ...names], () => {
      checkProperties(properties);
      eachOf(names, (name) => setAll(this.#pools.dataset(name).dataset, properties));
    });
  }

  inheritProperty(names: readonly DatasetName[], property: string): Promise<void> {
    return this.#command(`inherit ${property} in ${firstOf(names)}`, ['inherit', property, ...names], () =>
      eachOf(names, (name) => this.#pools.dataset(name).dataset.properties.delete(property)),
    );
  }

  /** There are no files to be seen; the directory is where they would be. */
  async mount(name: DatasetName): Promise<string> {
    const place = await this.#command(`mount ${name}`, ['mount', name], () => mountpointOf(this.#pools.dataset(name)));
    if (this.#mountRoot === null) return place;
    const directory = `${this.#mountRoot}${place}`;
    await mkdir(directory, { recursive: true });
    return directory;
  }

  unmount(name: DatasetName): Promise<void> {
    return this.#command(`unmount ${name}`, ['unmount', name], () => void this.#pools.dataset(name));
  }

  used(name: DatasetName): Promise<number> {
    return this.#command(`measure ${name}`, ['get', 'used', name], () => usedBelow(this.#subtree(name)));
  }

  objects(name: DatasetName): Promise<number> {
    // With the root of its files
    const count = (): number => this.#pools.dataset(name).dataset.content.size + 1;
    return this.#command(`count the files of ${name}`, ['userspace', name], count);
  }

  changedPaths(from: SnapshotReference, to: SnapshotReference): Promise<readonly Buffer[] | null> {
    return this.#command(`compare ${written(from)} with ${written(to)}`, ['diff', written(from), written(to)], () => {
      if (!this.#capabilities.diff) return null;
      return differingPaths(this.#pools.snapshot(from).snapshot.content, this.#pools.snapshot(to).snapshot.content);
    });
  }

  hold(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<void> {
    const action = `hold ${firstOf(snapshots.map(written))} under ${tag}`;
    return this.#command(action, ['hold', tag, ...holdWords(snapshots)], () => {
      eachOf(snapshots, (reference) => placeHold(this.#pools, tag, reference));
    });
  }

  release(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<boolean> {
    const action = `release ${tag} from ${firstOf(snapshots.map(written))}`;
    return this.#command(action, ['release', tag, ...holdWords(snapshots)], () => {
      const released = snapshots.map((reference) => releaseHold(this.#pools, tag, reference));
      return released.every((had) => had);
    });
  }

  holds(snapshots: readonly SnapshotReference[]): Promise<HoldTag[][]> {
    const names = snapshots.map(written);
    return this.#command(`list the holds of ${firstOf(names)}`, ['holds', ...names], () => {
      if (!this.#capabilities.listHolds) throw new Refusal('ZFS_UNSUPPORTED', 'it does not list holds');
      return snapshots.map(({ dataset, snapshot: name }) => {
        const found = this.#pools.find(dataset)?.dataset.snapshots.find((snapshot) => snapshot.name === name);
        return Array.from(found?.holds ?? []);
      });
    });
  }

  async estimate(request: SendRequest): Promise<number | null> {
    if (!this.#capabilities.sendEstimate) return null;
    const name = written(request.snapshot);
    return this.#command(`estimate a stream of ${name}`, ['send', '-nvP', name], () =>
      payloadBytes(sendSteps(this.#pools, request)),
    );
  }

  async send(request: SendRequest, target: SendTarget, signal: AbortSignal): Promise<StreamResult> {
    const name = written(request.snapshot);
    const token = request.resumeToken;
    const made = Array.from(writtenFlags(request.flags), (letter) => `-${letter}`);
    const attempt = {
      action: `send ${name}`,
      command: ['zfs', 'send', ...(token === null ? [...made, name] : ['-t', token])],
    };
    const stream = target.kind === 'stream' ? target.stream : target.socket;
    if (target.kind === 'socket') target.socket.once('data', () => stream.destroy()).resume();
    try {
      const { steps, records } = await this.#run(attempt, () => this.#sending(request), signal);
      return { bytes: await streamOut(steps, records, stream, signal) };
    } catch (error) {
      stream.destroy();
      throw streamFailure(error, attempt, signal);
    }
  }

  async receive(request: ReceiveRequest, source: ReceiveSource, signal: AbortSignal): Promise<StreamResult> {
    const attempt = { action: `receive ${request.target}`, command: ['zfs', 'receive', '-u', request.target] };
    const stream = source.kind === 'stream' ? source.stream : source.socket;
    try {
      const receive = await this.#run(attempt, () => this.#receive(request), signal);
      return { bytes: await streamIn(receive, stream, signal) };
    } catch (error) {
      stream.destroy();
      throw streamFailure(error, attempt, signal);
    }
  }

  #sending(request: SendRequest): { readonly steps: readonly SendStep[]; readonly records: Iterable<StreamRecord> } {
    if (request.resumeToken === null) {
      const steps = this.#sendSteps(request);
      return { steps, records: recordsOf(steps, request.flags) };
    }
    const resumed = parseToken(request.resumeToken);
    const step = resumed === null ? null : resumedStep(this.#pools, resumed);
    if (resumed === null || step === null) throw new Refusal('ZFS_NOT_FOUND', 'what the token names does not exist');
    const flags = parseFlags(resumed.flags);
    requireSendable([step], flags);
    return { steps: [step], records: recordsOf([step], flags, resumed.records) };
  }

  #sendSteps(request: SendRequest): SendStep[] {
    const beyond = flagsBeyond(request.flags, this.#capabilities.streamFlags);
    if (beyond !== '') throw new Refusal('ZFS_UNSUPPORTED', `streams are not made with ${beyond}`);
    const steps = sendSteps(this.#pools, request);
    requireSendable(steps, request.flags);
    return steps;
  }

  #receive(given: ReceiveRequest): MemoryReceive {
    const { streamFlags, resumableReceive } = this.#capabilities;
    const keepPartial = given.keepPartial && resumableReceive;
    const request = { ...given, keepPartial };
    if (this.#capabilities.receiveProperties || request.create === null) {
      checkProperties(request.create?.properties ?? {});
      return new MemoryReceive(this.#pools, request, streamFlags);
    }
    const create = { origin: null, properties: {}, snapshot: null };
    return new MemoryReceive(this.#pools, { ...request, create }, streamFlags);
  }

  readToken(token: ResumeToken): Promise<ResumePoint | null> {
    return this.#command('read a resume token', ['send', '-nvPt', token], () => {
      const said = this.#capabilities.resumableReceive ? parseToken(token) : null;
      if (said === null) return null;
      const to = resumedStep(this.#pools, said)?.to;
      const { toGuid, fromGuid } = said;
      const snapshot = to === undefined ? null : { dataset: to.dataset.name, snapshot: to.name };
      return { toGuid, fromGuid, flags: parseFlags(said.flags), snapshot };
    });
  }

  abandonReceive(name: DatasetName): Promise<void> {
    return this.#command(`give up a receive into ${name}`, ['receive', '-A', name], () => {
      const located = this.#pools.find(name);
      if (located?.dataset.partial == null) return;
      located.dataset.partial = null;
      if (located.dataset.snapshots.length === 0) located.pool.datasets.delete(name);
    });
  }

  #subtree(root: DatasetName): MemoryDataset[] {
    const { pool, dataset } = this.#pools.dataset(root);
    return [dataset, ...descendantsOf(pool, root)];
  }

  #writable(name: string): MemoryDataset {
    const { pool, dataset } = this.#pools.dataset(parseDatasetName(name));
    if (effectiveProperty(pool, dataset, 'readonly') === 'on') {
      throw new Refusal('ZFS_PERMISSION', `'${name}' is read-only`);
    }
    requireKey(dataset.key, dataset.name);
    nextTxg(pool);
    return dataset;
  }

  #byHand<T>(action: string, work: () => T): T {
    return attempted({ action, command: [] }, work);
  }

  #command<T>(action: string, argv: readonly string[], work: () => T, signal?: AbortSignal): Promise<T> {
    return this.#run({ action, command: ['zfs', ...argv] }, work, signal);
  }

  /** One command: counted, announced, and then done in one go. */
  async #run<T>(attempt: Attempt, work: () => T, signal?: AbortSignal): Promise<T> {
    this.#commandCount += 1;
    await this.#onCommand(attempt.command);
    if (signal?.aborted === true) throw zfsFailure('ZFS_ABORTED', attempt, { exitCode: null, stderr: '' });
    return attempted(attempt, work);
  }
}

/** Does the same to each, and complains of the first refusal after all were tried, as `zfs` does with several names. */
function eachOf<T>(all: readonly T[], change: (one: T) => void): void {
  const refusals: Refusal[] = [];
  for (const one of all) {
    try {
      change(one);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      refusals.push(error);
    }
  }
  if (refusals[0] !== undefined) throw refusals[0];
}

function setAll({ properties }: MemoryDataset, values: Properties): void {
  for (const [name, value] of Object.entries(values)) properties.set(name, value);
}

function written({ dataset, snapshot }: SnapshotReference): string {
  return `${dataset}@${snapshot}`;
}
