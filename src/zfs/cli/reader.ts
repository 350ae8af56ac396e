import { createHash } from 'node:crypto';
import { allEnded } from '../../core/all-ended.ts';
import { isPandoError, PandoError } from '../../core/errors.ts';
import { type DatasetName, parseDatasetName, parseSnapshotGuid, type SnapshotGuid } from '../../core/ids.ts';
import { firstOf, zfsFailure } from '../failure.ts';
import type { ListedDataset, ListedSnapshot, ZfsCapabilities } from '../zfs.ts';
import { Listing, listedSnapshot } from './listing.ts';
import { OPENZFS_COLUMNS, openZfsRow, PropertyRows, type Row, ZFS_FUSE_PROPERTIES, ZfsFuseRows } from './rows.ts';
import type { Runner, ShortCommand } from './runner.ts';

/** How often a listing is begun again because datasets came, went or were renamed while it ran. */
const LIST_ATTEMPTS_MAX = 5;

/** What several datasets are asked for passes over those that are gone. */
export const MISSING = /^(cannot open '.*': dataset does not exist|no datasets available)$/;

/** `snapshots_changed` counts in seconds: a value is final when it has been seen for longer than this, in ms. */
const CHANGED_SETTLES_AFTER_MS = 2_000;

/** Fewer snapshots than this, by name, are not worth another process. */
const SNAPSHOTS_SIDE_BY_SIDE_MIN = 128;

/** How far down rows go. A depth of 1 brings the snapshots, and children besides, which the caller leaves out. */
const ROW_DEPTH = { below: ['-r'], only: ['-d', '1'], snapshots: [] } as const;

/** Local properties of some datasets, and which of those are gone. */
interface ReadProperties {
  readonly values: PropertyRows;
  readonly missing: ReadonlySet<string>;
}

/** Reads datasets, snapshots and properties, each with as few processes as the dialect allows. */
export class Reader {
  readonly #runner: Runner;
  readonly #dialect: ZfsCapabilities['dialect'];
  readonly #onSkipped: (name: string) => void;
  readonly #tokens = new Map<DatasetName, { readonly token: string; readonly firstSeenMs: number }>();
  #unsettled = 0;

  constructor(runner: Runner, dialect: ZfsCapabilities['dialect'], onSkipped: (name: string) => void) {
    this.#runner = runner;
    this.#dialect = dialect;
    this.#onSkipped = onSkipped;
  }

  /**
   * Everything at and below `root`. Properties and snapshots come from different commands, which run side by side; the names before and
   * in both must be the same, or a dataset that was renamed in between would seem to have lost its properties.
   */
  async list(root: DatasetName, signal?: AbortSignal): Promise<ListedDataset[]> {
    return this.#untilStable(root, async () => {
      const names = await this.names(root, signal);
      const [properties, listing] = await Promise.all([
        this.#properties(names, root, signal),
        this.#rows([root], 'below', signal),
      ]);
      const before = new Set(names);
      const after = listing.names();
      const same =
        properties.missing.size === 0 && after.length === before.size && after.every((name) => before.has(name));
      return same ? this.#finish(listing, properties, signal) : null;
    });
  }

  async listOnly(names: readonly DatasetName[], signal?: AbortSignal): Promise<ListedDataset[]> {
    const wanted = new Set(names);
    const [first] = names;
    if (first === undefined) return [];
    return this.#untilStable(first, async () => {
      const found: ListedDataset[] = [];
      const missing = new Set<string>();
      for (const batch of this.#runner.commandLine.batches(names)) {
        const [properties, listing] = await Promise.all([
          this.#properties(batch, first, signal),
          this.#rows(batch, 'only', signal),
        ]);
        found.push(...(await this.#finish(listing, properties, signal)).filter(({ name }) => wanted.has(name)));
        for (const name of properties.missing) missing.add(name);
      }
      if (found.some(({ name }) => missing.has(name))) return null;
      const byName = new Map(found.map((dataset) => [dataset.name, dataset]));
      return Array.from(wanted).flatMap((name) => byName.get(name) ?? []);
    });
  }

  /** Snapshots by their full names; those that do not exist are left out. What is listed besides rejects with `ZFS_FAILED`. */
  async listSnapshots(names: readonly string[], signal?: AbortSignal): Promise<Map<string, ListedSnapshot>> {
    const snapshots = new Map<string, ListedSnapshot>();
    const list = async (batch: readonly string[]): Promise<void> => {
      const asked = new Set(batch);
      const onRow = (row: Row): void => {
        if (!asked.has(row.name)) throw new PandoError('INTERNAL', `ZFS listed ${row.name}, which was not asked for.`);
        snapshots.set(row.name, listedSnapshot(row));
      };
      await this.#runMissing({
        ...this.#rowCommand('snapshots', batch, onRow),
        action: `list ${firstOf(batch)}`,
        names: batch.map((name) => parseDatasetName(name.slice(0, name.indexOf('@')))),
        signal,
      });
    };
    await allEnded(this.#runner.divided(names, SNAPSHOTS_SIDE_BY_SIDE_MIN).map(list));
    return snapshots;
  }

  /** Names of the datasets at and below `root` that Pando takes. */
  async names(root: DatasetName, signal?: AbortSignal): Promise<DatasetName[]> {
    const words = ['list', '-H', '-r', '-t', 'filesystem,volume', '-o', 'name', root];
    const lines = await this.#runner.lines({ words, action: `list ${root}`, names: [root], signal });
    return lines.flatMap((line) => validName(line) ?? []);
  }

  /** See `Zfs.changeToken`; `snapshots_changed` must be known. */
  async changeToken(root: DatasetName, signal?: AbortSignal): Promise<string> {
    const hash = createHash('sha256');
    const columns = 'name,guid,origin,snapshots_changed';
    for (const words of [
      ['list', '-Hp', '-r', '-t', 'filesystem,volume', '-o', columns, root],
      ['get', '-Hp', '-r', '-t', 'filesystem,volume', '-s', 'local', '-o', 'name,property,value', 'all', root],
    ]) {
      const onLine = (line: string): void => void hash.update(`${line}\n`);
      await this.#runner.run({ words, action: `list ${root}`, names: [root], signal, onLine });
    }
    return this.#settled(root, hash.digest('hex'));
  }

  /** Makes a token that is too young to be trusted unlike any other: in its second there may still be another change. */
  #settled(root: DatasetName, token: string): string {
    const now = performance.now();
    const before = this.#tokens.get(root);
    if (before?.token !== token) this.#tokens.set(root, { token, firstSeenMs: now });
    const firstSeenMs = before?.token === token ? before.firstSeenMs : now;
    if (now - firstSeenMs > CHANGED_SETTLES_AFTER_MS) return token;
    this.#unsettled += 1;
    return `${token} ${this.#unsettled}`;
  }

  async #untilStable(root: DatasetName, read: () => Promise<ListedDataset[] | null>): Promise<ListedDataset[]> {
    for (let attempt = 1; attempt <= LIST_ATTEMPTS_MAX; attempt += 1) {
      const datasets = await read();
      if (datasets !== null) return datasets;
    }
    const ending = { exitCode: 0, stderr: '' };
    const command = this.#runner.commandLine.words('zfs', ['list', root]);
    throw zfsFailure('ZFS_BUSY', { action: `list ${root}`, command }, ending, 'its datasets change all the time');
  }

  async #properties(
    names: readonly DatasetName[],
    root: DatasetName,
    signal: AbortSignal | undefined,
  ): Promise<ReadProperties> {
    const values = new PropertyRows(names);
    const missing = new Set<string>();
    for (const batch of this.#runner.commandLine.batches(names)) {
      const complaints = await this.#runMissing({
        words: ['get', '-Hp', '-s', 'local', '-o', 'name,property,value', 'all', ...batch],
        action: `read the properties of ${root}`,
        names: batch,
        signal,
        onLine: (line) => values.accept(line),
      });
      for (const [, name = ''] of complaints.matchAll(/^cannot open '(.*)': dataset does not exist$/gm))
        missing.add(name);
      if (this.#dialect === 'zfs-fuse') await this.#hiddenReadonly(batch, root, signal, values);
    }
    return { values, missing };
  }

  /** A dataset that was mounted before it was set to `readonly=on` takes no writes any more, but zfs-fuse shows what its mount says: "off", for the time being. */
  async #hiddenReadonly(
    names: readonly string[],
    root: DatasetName,
    signal: AbortSignal | undefined,
    values: PropertyRows,
  ): Promise<void> {
    const end = '\treadonly\toff';
    await this.#runMissing({
      words: ['get', '-Hp', '-s', 'temporary', '-o', 'name,property,value', 'readonly', ...names],
      action: `read the properties of ${root}`,
      names: names as readonly DatasetName[],
      signal,
      onLine: (line) => {
        if (line.endsWith(end)) values.accept(`${line.slice(0, -end.length)}\treadonly\ton`);
      },
    });
  }

  async #rows(
    names: readonly DatasetName[],
    scope: 'below' | 'only',
    signal: AbortSignal | undefined,
  ): Promise<Listing> {
    const listing = new Listing(this.#onSkipped);
    const command = this.#rowCommand(scope, names, (row) => listing.accept(row));
    await this.#runMissing({ ...command, action: `list ${firstOf(names)}`, names, signal }, scope);
    return listing;
  }

  /** The command that prints rows, in this dialect, and what reads its lines. */
  #rowCommand(
    scope: 'below' | 'only' | 'snapshots',
    names: readonly string[],
    onRow: (row: Row) => void,
  ): Pick<ShortCommand, 'words' | 'onLine'> {
    const depth = ROW_DEPTH[scope];
    if (this.#dialect === 'zfs-fuse') {
      const rows = new ZfsFuseRows(onRow);
      const words = ['get', '-Hp', ...depth, '-o', 'name,property,value', ZFS_FUSE_PROPERTIES.join(','), ...names];
      return { words, onLine: (line) => rows.accept(line) };
    }
    const columns = ['name', ...OPENZFS_COLUMNS].join(',');
    const types = scope === 'snapshots' ? 'snapshot' : 'filesystem,volume,snapshot,bookmark';
    const words = ['list', '-Hp', ...depth, '-t', types, '-o', columns, ...names];
    return { words, onLine: (line) => onRow(openZfsRow(line)) };
  }

  /** Passes over datasets that are gone, unless their pool is gone as well, or it is the one root that was asked for. */
  async #runMissing(command: ShortCommand, scope: 'below' | 'only' = 'only'): Promise<string> {
    if (scope === 'below') return this.#runner.run(command);
    const complaints = await this.#runner.run({ ...command, passOver: MISSING });
    if (complaints !== '') await this.#runner.requirePools(command.names, command.action);
    return complaints;
  }

  async #finish(
    listing: Listing,
    properties: ReadProperties,
    signal: AbortSignal | undefined,
  ): Promise<ListedDataset[]> {
    const elsewhere = await this.#guids(listing.originsElsewhere(), signal);
    return listing.datasets((name) => properties.values.of(name), elsewhere);
  }

  /** guids of snapshots by full name; those that are gone are left out. */
  async #guids(names: readonly string[], signal: AbortSignal | undefined): Promise<Map<string, SnapshotGuid>> {
    const guids = new Map<string, SnapshotGuid>();
    for (const batch of this.#runner.commandLine.batches(names)) {
      await this.#runner.run({
        words: ['get', '-Hp', '-o', 'name,value', 'guid', ...batch],
        action: 'find the origins of clones',
        names: batch.map((name) => parseDatasetName(name.split('@')[0] ?? name)),
        signal,
        passOver: MISSING,
        onLine: (line) => {
          const [name = '', guid = ''] = line.split('\t');
          guids.set(name, parseSnapshotGuid(guid));
        },
      });
    }
    return guids;
  }
}

function validName(line: string): DatasetName | undefined {
  try {
    return parseDatasetName(line);
  } catch (error) {
    if (isPandoError(error, 'NAME_INVALID')) return undefined;
    throw error;
  }
}
