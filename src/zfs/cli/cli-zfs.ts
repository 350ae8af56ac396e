import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { isPandoError, PandoError } from '../../core/errors.ts';
import type { Properties } from '../../core/events.ts';
import type { BookmarkName, DatasetName, HoldTag, ResumeToken, SnapshotName } from '../../core/ids.ts';
import { poolOf } from '../../core/ids.ts';
import { PLACEHOLDER_BYTES_MAX, PLACEHOLDER_PROPERTY } from '../../core/plan/steps.ts';
import { firstOf, zfsFailure } from '../failure.ts';
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
import { checkProperties } from './arguments.ts';
import { requireNoBookmarkTwice } from './bookmarks.ts';
import type { Starter } from './children/child.ts';
import { ownChildren } from './children/own-child.ts';
import { CommandLine, type CommandLineOptions } from './command-line.ts';
import { destroyDataset } from './destroy.ts';
import { changedPaths } from './diff.ts';
import { Holds } from './holds.ts';
import { MomentaryMounts } from './momentary-mounts.ts';
import { directoryOf, ensureMounted, requireHere, requireRoom, unmount, used } from './mounts.ts';
import { objects } from './objects.ts';
import { probe } from './probe.ts';
import { MISSING, Reader } from './reader.ts';
import { rollBack } from './rollback.ts';
import { Runner } from './runner.ts';
import { datasetsOf, receiveWords, runReceive, runSend, sendWords, writtenBookmark, writtenName } from './streams.ts';
import { isToken, readToken } from './tokens.ts';
import { renameUnmounted, unmountIfMounted, whileUnmounted } from './unmounted.ts';

export interface CliZfsOptions extends CommandLineOptions {
  /** How many short commands run at once for one pool; streams do not count. */
  readonly concurrencyPerPool?: number;
  /** Who starts the commands (default: this process). */
  readonly starter?: Starter;
  /** How long, in ms, an aborted first receive may take until its dataset is gone. */
  readonly cleanupMs?: number;
  /** Hears of datasets and snapshots that are not listed, because Pando does not take their names. */
  readonly onSkipped?: (name: string) => void;
}

/** Commands on one pool mostly wait for a transaction group, and share it; more at once brings nothing but processes. */
const CONCURRENCY_PER_POOL = 8;
/** Each is a login where the commands run through ssh, and servers take few at a time (MaxStartups, sshd_config.5). */
const REMOTE_CONCURRENCY_PER_POOL = 2;
/** zfs-fuse removes what an aborted first receive has made a moment after `zfs` has ended. */
const RECEIVE_CLEANUP_MS_MAX = 10_000;
const RECEIVE_CLEANUP_POLL_MS = 50;
/** The work is done, only the mount failed: not what was asked for. */
const NOT_MOUNTED = /successfully created, but (it could )?not (be )?mounted|^cannot mount /;
/** Where there is nothing to give up. */
const NOTHING_PARTIAL = /does not have any resumable receive state/;

interface Asked {
  readonly capabilities: ZfsCapabilities;
  readonly reader: Reader;
}

/** Drives the `zfs` and `zpool` commands of OpenZFS or zfs-fuse, on this machine or another. */
export class CliZfs implements Zfs {
  readonly #commandLine: CommandLine;
  readonly #starter: Starter;
  readonly #holds: Holds;
  readonly #runner: Runner;
  readonly #mounts: MomentaryMounts;
  readonly #onSkipped: (name: string) => void;
  readonly #cleanupMs: number;
  #asked: Promise<Asked> | undefined;

  constructor(options: CliZfsOptions = {}) {
    this.#commandLine = new CommandLine(options);
    this.#starter = options.starter ?? ownChildren();
    const concurrency = this.#commandLine.remoteShell ? REMOTE_CONCURRENCY_PER_POOL : CONCURRENCY_PER_POOL;
    this.#runner = new Runner(this.#commandLine, this.#starter, options.concurrencyPerPool ?? concurrency);
    this.#holds = new Holds(this.#runner);
    this.#onSkipped = options.onSkipped ?? (() => undefined);
    this.#cleanupMs = options.cleanupMs ?? RECEIVE_CLEANUP_MS_MAX;
    const dialect = async (): Promise<ZfsCapabilities['dialect']> => (await this.capabilities()).dialect;
    this.#mounts = new MomentaryMounts({
      mount: async (name) => ensureMounted(this.#runner, await dialect(), name),
      unmount: async (name) => unmount(this.#runner, await dialect(), name),
    });
  }

  close(): Promise<void> {
    return this.#starter.close();
  }

  async capabilities(): Promise<ZfsCapabilities> {
    return (await this.#ask()).capabilities;
  }

  async list(root: DatasetName, signal?: AbortSignal): Promise<ListedDataset[]> {
    return (await this.#ask()).reader.list(root, signal);
  }

  async listOnly(names: readonly DatasetName[], signal?: AbortSignal): Promise<ListedDataset[]> {
    return (await this.#ask()).reader.listOnly(names, signal);
  }

  async listSnapshots(
    snapshots: readonly SnapshotReference[],
    signal?: AbortSignal,
  ): Promise<(ListedSnapshot | null)[]> {
    const listed = await (await this.#ask()).reader.listSnapshots(snapshots.map(writtenName), signal);
    return snapshots.map((snapshot) => listed.get(writtenName(snapshot)) ?? null);
  }

  async changeToken(root: DatasetName, signal?: AbortSignal): Promise<string | null> {
    const { capabilities, reader } = await this.#ask();
    return capabilities.snapshotsChanged ? reader.changeToken(root, signal) : null;
  }

  pools(): Promise<string[]> {
    return this.#runner.pools();
  }

  async create(name: DatasetName, properties: Properties = {}): Promise<void> {
    const action = `create ${name}`;
    const { dialect } = await this.capabilities();
    if (properties.canmount !== 'off') await requireRoom(this.#runner, dialect, action);
    await this.#run(action, [name], ['create', ...options(properties, action), name], NOT_MOUNTED);
  }

  async snapshot(snapshots: readonly SnapshotReference[]): Promise<void> {
    const { capabilities } = await this.#ask();
    const groups = snapshotsTogether(snapshots, capabilities.dialect);
    for (const together of groups) this.#requireOneCommand(together.map(writtenName));
    for (const together of groups) {
      const names = together.map(writtenName);
      await this.#run(`snapshot ${firstOf(names)}`, datasetsOf(together), ['snapshot', ...names]);
    }
  }

  /** What is to be atomic cannot be divided among commands. */
  #requireOneCommand(names: readonly string[]): void {
    if (this.#commandLine.takes(names)) return;
    const attempt = { action: `snapshot ${firstOf(names)}`, command: this.#commandLine.words('zfs', ['snapshot']) };
    const detail = `${names.length} names are more than one command takes; snapshot fewer datasets at once`;
    throw zfsFailure('ZFS_UNSUPPORTED', attempt, { exitCode: null, stderr: '' }, detail);
  }

  async clone(origin: SnapshotReference, target: DatasetName, properties: Properties = {}): Promise<void> {
    const action = `clone ${writtenName(origin)} to ${target}`;
    const words = ['clone', ...options(properties, action), writtenName(origin), target];
    const { dialect } = await this.capabilities();
    await requireRoom(this.#runner, dialect, action);
    await this.#run(action, [origin.dataset, target], words, NOT_MOUNTED);
    // It mounts every clone, whatever that says of itself
    if (dialect === 'zfs-fuse' && properties.canmount === 'noauto') await unmountIfMounted(this.#runner, target);
  }

  async promote(name: DatasetName): Promise<void> {
    const { capabilities } = await this.#ask();
    if (capabilities.bookmarks) await requireNoBookmarkTwice(this.#runner, name);
    await this.#run(`promote ${name}`, [name], ['promote', name]);
  }

  async rename(from: DatasetName, to: DatasetName): Promise<void> {
    const { capabilities } = await this.#ask();
    const rename = async (): Promise<void> => {
      await this.#run(`rename ${from} to ${to}`, [from, to], ['rename', from, to], NOT_MOUNTED);
    };
    try {
      if (capabilities.dialect === 'zfs-fuse') await renameUnmounted(this.#runner, from, to, rename);
      else await rename();
    } catch (error) {
      throw from === poolOf(from) ? poolNameRefused(error) : error;
    }
  }

  async renameSnapshot(from: SnapshotReference, to: SnapshotName): Promise<void> {
    const words = ['rename', writtenName(from), writtenName({ dataset: from.dataset, snapshot: to })];
    await this.#run(`rename ${writtenName(from)} to ${to}`, [from.dataset], words);
  }

  async destroy(name: DatasetName): Promise<void> {
    const { capabilities } = await this.#ask();
    await destroyDataset(this.#runner, capabilities.dialect, name);
  }

  rollback(snapshot: SnapshotReference, options: { readonly destroyNewer: boolean }): Promise<void> {
    return rollBack(this.#runner, snapshot, options);
  }

  async destroySnapshot(snapshot: SnapshotReference): Promise<void> {
    const name = writtenName(snapshot);
    await this.#run(`destroy ${name}`, [snapshot.dataset], ['destroy', name]);
  }

  async bookmark(snapshot: SnapshotReference, name: BookmarkName): Promise<void> {
    const { dataset } = snapshot;
    const written = writtenBookmark({ dataset, bookmark: name });
    const action = `bookmark ${writtenName(snapshot)}`;
    await this.#requireBookmarks(action, ['bookmark', writtenName(snapshot), written]);
    await this.#run(action, [dataset], ['bookmark', writtenName(snapshot), written]);
  }

  async destroyBookmark(bookmark: BookmarkReference): Promise<void> {
    const words = ['destroy', writtenBookmark(bookmark)];
    const action = `destroy ${writtenBookmark(bookmark)}`;
    await this.#requireBookmarks(action, words);
    await this.#run(action, [bookmark.dataset], words);
  }

  async #requireBookmarks(action: string, words: readonly string[]): Promise<void> {
    const { capabilities } = await this.#ask();
    if (capabilities.bookmarks) return;
    const attempt = { action, command: this.#commandLine.words('zfs', words) };
    const nothing = { exitCode: null, stderr: '' };
    throw zfsFailure('ZFS_UNSUPPORTED', attempt, nothing, `${capabilities.version} has no bookmarks`);
  }

  async setProperties(names: readonly DatasetName[], properties: Properties): Promise<void> {
    const { capabilities } = await this.#ask();
    const assignments = Object.entries(properties).map(([name, value]) => `${name}=${value}`);
    const action = `set properties of ${firstOf(names)}`;
    checkProperties(properties, action);
    // zfs-fuse takes one property at a time
    const groups = capabilities.dialect === 'zfs-fuse' ? assignments.map((each) => [each]) : [assignments];
    for (const group of groups.filter(({ length }) => length > 0)) {
      await this.#onEach(action, ['set', ...group], names);
    }
  }

  async inheritProperty(names: readonly DatasetName[], property: string): Promise<void> {
    const action = `inherit ${property} in ${firstOf(names)}`;
    checkProperties({ [property]: '' }, action);
    await this.#onEach(action, ['inherit', property], names);
  }

  async mount(name: DatasetName): Promise<string> {
    requireHere(this.#runner, name);
    return directoryOf(name, await this.#mounts.mount(name));
  }

  unmount(name: DatasetName): Promise<void> {
    return this.#mounts.unmount(name);
  }

  used(name: DatasetName): Promise<number> {
    return used(this.#runner, name);
  }

  async objects(name: DatasetName): Promise<number> {
    const { dialect } = await this.capabilities();
    return objects(this.#runner, this.#mounts, dialect, name);
  }

  async changedPaths(from: SnapshotReference, to: SnapshotReference): Promise<readonly Buffer[] | null> {
    const { diff } = await this.capabilities();
    return diff ? changedPaths(this.#runner, this.#mounts, from, to) : null;
  }

  hold(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<void> {
    return this.#holds.place(tag, snapshots);
  }

  release(tag: HoldTag, snapshots: readonly HoldReference[]): Promise<boolean> {
    return this.#holds.release(tag, snapshots);
  }

  async holds(snapshots: readonly SnapshotReference[]): Promise<HoldTag[][]> {
    const { capabilities } = await this.#ask();
    return this.#holds.tagsOf(snapshots, capabilities);
  }

  async estimate(request: SendRequest): Promise<number | null> {
    const { capabilities } = await this.#ask();
    if (!capabilities.sendEstimate) return null;
    let bytes: number | null = null;
    const onLine = (line: string): void => {
      const [word, size] = line.split('\t');
      if (word === 'size') bytes = Number(size);
    };
    const words = ['send', '-nvP', ...sendWords(request)];
    const action = `estimate a stream of ${writtenName(request.snapshot)}`;
    // Up to OpenZFS 2.1 it goes to standard error
    const run = this.#runner.run({ words, action, names: namesOf(request), onLine });
    const complaints = await run.catch((error: unknown) => {
      throw baseMissing(error, request);
    });
    complaints.split('\n').forEach(onLine);
    return bytes;
  }

  async send(request: SendRequest, target: SendTarget, signal: AbortSignal): Promise<StreamResult> {
    const words = ['send', ...sendWords(request)];
    const command = { action: `send ${writtenName(request.snapshot)}`, command: this.#commandLine.words('zfs', words) };
    try {
      const { dialect } = await this.capabilities();
      const end = this.#piped(target);
      // As with a socket that the child has: what the far end says is its end
      if (end !== target && target.kind === 'socket')
        target.socket.once('data', () => target.socket.destroy()).resume();
      return await runSend({ ...command, dialect, starter: this.#starter }, end, signal);
    } catch (error) {
      (target.kind === 'stream' ? target.stream : target.socket).destroy();
      if (isPandoError(error, 'ZFS_NOT_FOUND')) await this.#runner.requirePools(namesOf(request), command.action);
      throw baseMissing(error, request);
    }
  }

  async receive(request: ReceiveRequest, source: ReceiveSource, signal: AbortSignal): Promise<StreamResult> {
    try {
      return await this.#receive(request, source, signal);
    } catch (error) {
      (source.kind === 'stream' ? source.stream : source.socket).destroy();
      throw error;
    }
  }

  async #receive(request: ReceiveRequest, source: ReceiveSource, signal: AbortSignal): Promise<StreamResult> {
    const { capabilities } = await this.#ask();
    const action = `receive ${request.target}`;
    checkProperties(request.create?.properties ?? {}, action);
    await this.#requirePlace(request, action, signal);
    const words = receiveWords(request, this.#piped(source).kind, capabilities);
    const command = { action, command: this.#commandLine.words('zfs', words), starter: this.#starter };
    const receive = (): Promise<StreamResult> => runReceive(command, this.#piped(source), signal, request.expected);
    try {
      if (!request.overPlaceholder) return await receive();
      const replaced =
        capabilities.dialect === 'zfs-fuse'
          ? await whileUnmounted(this.#runner, request.target, receive)
          : await receive();
      await this.inheritProperty([request.target], PLACEHOLDER_PROPERTY);
      return replaced;
    } catch (error) {
      const isMaking = request.create !== null && !request.overPlaceholder;
      const keeps = request.keepPartial && capabilities.resumableReceive;
      if (isPandoError(error, 'ZFS_ABORTED') && isMaking && !keeps)
        await this.#untilGone(request.target, capabilities.dialect).catch(() => undefined);
      throw error;
    }
  }

  async readToken(token: ResumeToken): Promise<ResumePoint | null> {
    const { capabilities } = await this.#ask();
    if (!capabilities.resumableReceive || !isToken(token)) return null;
    return readToken(this.#runner, token);
  }

  async abandonReceive(name: DatasetName): Promise<void> {
    try {
      await this.#run(`give up a receive into ${name}`, [name], ['receive', '-A', name], NOTHING_PARTIAL);
    } catch (error) {
      if (!isPandoError(error, 'ZFS_NOT_FOUND')) throw error;
    }
  }

  /**
   * Checks that the target is there for an increment, and otherwise that only its parent is: where something is missing, `zfs receive`
   * looks for another dataset with the base's guid and receives into that (libzfs_sendrecv.c).
   */
  async #requirePlace(request: ReceiveRequest, action: string, signal: AbortSignal): Promise<void> {
    const { target, create, overPlaceholder, baseHeld } = request;
    if (create === null && baseHeld) return;
    const parent = target.slice(0, Math.max(target.lastIndexOf('/'), 0)) as DatasetName;
    const attempt = { action, command: this.#commandLine.words('zfs', ['list', target]) };
    const refuse = (code: 'ZFS_DATASET_EXISTS' | 'ZFS_NOT_FOUND' | 'ZFS_NAME_REFUSED', detail: string): never => {
      throw zfsFailure(code, attempt, { exitCode: null, stderr: '' }, detail);
    };
    if (create !== null && parent === '') refuse('ZFS_NAME_REFUSED', `'${target}' is the name of a pool`);
    const found = await this.#existing(
      [target, parent].filter((name) => name !== ''),
      action,
      signal,
    );
    if (create === null || overPlaceholder) {
      if (!found.includes(target)) refuse('ZFS_NOT_FOUND', `'${target}' does not exist`);
      if (overPlaceholder && !(await this.#isPlaceholder(target))) {
        refuse('ZFS_DATASET_EXISTS', `'${target}' exists and is no empty placeholder`);
      }
      return;
    }
    if (found.includes(target)) refuse('ZFS_DATASET_EXISTS', `'${target}' exists`);
    if (!found.includes(parent)) refuse('ZFS_NOT_FOUND', `the parent '${parent}' does not exist`);
  }

  /** Whether it was made as a placeholder and is still as empty as then: without snapshots, never mounted, without data. */
  async #isPlaceholder(name: DatasetName): Promise<boolean> {
    const [dataset] = await this.listOnly([name]);
    if (dataset?.properties[PLACEHOLDER_PROPERTY] !== 'on' || dataset.snapshots.length > 0) return false;
    const words = ['get', '-Hp', '-o', 'property,value', 'canmount,referenced', name];
    const lines = await this.#runner.lines({ words, action: `look at the placeholder ${name}`, names: [name] });
    const { canmount, referenced } = Object.fromEntries(lines.map((line) => line.split('\t')));
    return canmount === 'off' && Number(referenced) <= PLACEHOLDER_BYTES_MAX;
  }

  /** Those of the datasets that exist. Rejects with `ZFS_NO_POOL` when their pool does not. */
  async #existing(names: readonly DatasetName[], action: string, signal?: AbortSignal): Promise<string[]> {
    const words = ['list', '-H', '-o', 'name', ...names];
    const lines: string[] = [];
    const onLine = (line: string): void => void lines.push(line);
    await this.#runner.run({ words, action, names, signal, passOver: MISSING, onLine });
    if (lines.length === 0) await this.#runner.requirePools(names, action);
    return lines;
  }

  /**
   * With a remote shell the child is `ssh`: handing it the socket saves nothing, and it may not fail when the far end goes away, so that half a
   * stream would count as sent. Then this process pipes.
   */
  #piped<End extends SendTarget | ReceiveSource>(end: End): End | { readonly kind: 'stream'; readonly stream: Socket } {
    if (end.kind === 'stream' || !this.#commandLine.remoteShell) return end;
    return { kind: 'stream', stream: end.socket };
  }

  /**
   * Waits for what an aborted first receive leaves. With a snapshot it stays: that came in full before. zfs-fuse forgets one now and then, and its name would be taken for good: that is destroyed. It was
   * not there before the receive, is the one that was there when that ended, and nobody has mounted it, so that nobody can have written to it.
   */
  async #untilGone(target: DatasetName, dialect: ZfsCapabilities['dialect']): Promise<void> {
    const deadline = performance.now() + this.#cleanupMs;
    const [first] = await this.listOnly([target]);
    for (let left = first; left !== undefined; [left] = await this.listOnly([target])) {
      if (left.snapshots.length > 0 || left.guid !== first?.guid) return;
      if (performance.now() > deadline) return dialect === 'zfs-fuse' ? this.#destroyUnmounted(target) : undefined;
      await delay(RECEIVE_CLEANUP_POLL_MS);
    }
  }

  /** Not what has snapshots or children either: without an option ZFS refuses that. */
  async #destroyUnmounted(name: DatasetName): Promise<void> {
    const action = `destroy ${name}, which a receive has left`;
    const words = ['get', '-H', '-o', 'value', 'mounted', name];
    const [mounted] = await this.#runner.lines({ words, action, names: [name] });
    if (mounted === 'no') await this.#run(action, [name], ['destroy', name]);
  }

  /** One command for all names, or a few where they are too many for one. The first failure is told after all were tried. */
  async #onEach(action: string, words: readonly string[], names: readonly DatasetName[]): Promise<void> {
    const failures: unknown[] = [];
    for (const batch of this.#commandLine.batches(names)) {
      await this.#run(action, names, [...words, ...batch]).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  #run(action: string, names: readonly DatasetName[], words: readonly string[], passOver?: RegExp): Promise<string> {
    return this.#runner.run({ action, names, words, ...(passOver === undefined ? {} : { passOver }) });
  }

  #ask(): Promise<Asked> {
    this.#asked ??= probe(this.#commandLine, this.#starter).then((capabilities) => ({
      capabilities,
      reader: new Reader(this.#runner, capabilities.dialect, this.#onSkipped),
    }));
    // A ZFS that did not answer may do so next time
    this.#asked.catch(() => {
      this.#asked = undefined;
    });
    return this.#asked;
  }
}

function options(properties: Properties, action: string): string[] {
  checkProperties(properties, action);
  return Object.entries(properties).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

function namesOf({ snapshot, base }: SendRequest): DatasetName[] {
  return Array.from(new Set([snapshot, ...(base === null ? [] : [base])].map(({ dataset }) => dataset)));
}

/** Groups what one command may take: on OpenZFS one snapshot per dataset of one pool, on zfs-fuse one snapshot. */
function snapshotsTogether(
  snapshots: readonly SnapshotReference[],
  dialect: ZfsCapabilities['dialect'],
): SnapshotReference[][] {
  if (dialect === 'zfs-fuse') return snapshots.map((snapshot) => [snapshot]);
  const groups = new Map<string, SnapshotReference[]>();
  const rounds = new Map<DatasetName, number>();
  for (const snapshot of snapshots) {
    const { dataset } = snapshot;
    const round = rounds.get(dataset) ?? 0;
    rounds.set(dataset, round + 1);
    const key = `${round} ${poolOf(dataset)}`;
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [snapshot]);
    else group.push(snapshot);
  }
  return Array.from(groups.values());
}

/** OpenZFS says of a missing base what it says of a missing snapshot. */
function baseMissing(error: unknown, { base }: SendRequest): unknown {
  if (base === null || !isPandoError(error, 'ZFS_NOT_FOUND')) return error;
  const name = 'bookmark' in base ? writtenBookmark(base) : writtenName(base);
  if (!String(error.evidence.stderr).includes(`'${name}'`)) return error;
  return new PandoError('ZFS_BASE_MISSING', error.message, error.evidence, { cause: error });
}

/** A pool cannot be renamed by `zfs rename`, which says so in as many ways as there are targets. */
function poolNameRefused(error: unknown): unknown {
  if (!(error instanceof PandoError)) return error;
  return new PandoError('ZFS_NAME_REFUSED', error.message, error.evidence, { cause: error });
}
