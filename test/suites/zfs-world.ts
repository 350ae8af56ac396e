/** What the Zfs contract's tests have at hand: a Zfs with two pools, and names and shorthands to use them. */
import { PassThrough } from 'node:stream';
import { expect } from 'vitest';
import { isPandoError, PandoError } from '../../src/core/errors.ts';
import { type DatasetName, type HoldTag, parseDatasetName, parseSnapshotName } from '../../src/core/ids.ts';
import { PLAIN_STREAM, type StreamFlags } from '../../src/core/stream-flags.ts';
import type { ZfsErrorCode } from '../../src/zfs/failure.ts';
import type {
  ListedDataset,
  ListedSnapshot,
  ReceiveRequest,
  SendRequest,
  SnapshotReference,
  StreamResult,
  Zfs,
  ZfsCapabilities,
} from '../../src/zfs/zfs.ts';

/** What a driver brings to the contract. */
export interface ZfsUnderTest {
  readonly zfs: Zfs;
  /** Two pools without datasets. */
  readonly pool: string;
  readonly otherPool: string;
  /** Whether the files are on another machine, where this one cannot mount them. */
  readonly areFilesElsewhere?: boolean;
  /** Writes a file of a mounted dataset. */
  writeFile(dataset: DatasetName, path: string, text: string): Promise<void>;
  /** Text of a file of a dataset, which is mounted for that if need be. */
  readFile(dataset: DatasetName, path: string): Promise<string>;
  /** Where there is encryption: a filesystem with a key of its own, loaded, and that key unloaded and loaded again, also for a replica of it. */
  readonly encryption?: {
    create(name: DatasetName): Promise<void>;
    lock(name: DatasetName): Promise<void>;
    unlock(name: DatasetName): Promise<void>;
  };
  cleanup(): Promise<void>;
}

export type Outcome<T> = { readonly value: T } | { readonly error: unknown };

/** What came of both ends of a stream. */
export interface Transferred {
  readonly sent: Outcome<StreamResult>;
  readonly received: Outcome<StreamResult>;
}

export class ZfsWorld {
  readonly underTest: ZfsUnderTest;
  readonly capabilities: ZfsCapabilities;
  #names = 0;

  constructor(underTest: ZfsUnderTest, capabilities: ZfsCapabilities) {
    this.underTest = underTest;
    this.capabilities = capabilities;
  }

  get zfs(): Zfs {
    return this.underTest.zfs;
  }

  /** A name that no other test uses. */
  fresh(pool: 'pool' | 'otherPool' = 'pool'): DatasetName {
    this.#names += 1;
    return parseDatasetName(`${this.underTest[pool]}/test ${this.#names}`);
  }

  /** A new dataset under a name that no other test uses. */
  async root(pool: 'pool' | 'otherPool' = 'pool'): Promise<DatasetName> {
    const name = this.fresh(pool);
    await this.zfs.create(name);
    return name;
  }

  /** Writes one file of that name and takes a snapshot. */
  async change(reference: SnapshotReference): Promise<SnapshotReference> {
    await this.underTest.writeFile(reference.dataset, `file-${reference.snapshot}`, `text of ${reference.snapshot}`);
    await this.zfs.snapshot([reference]);
    return reference;
  }

  async dataset(name: DatasetName): Promise<ListedDataset> {
    const [dataset] = await this.zfs.listOnly([name]);
    if (dataset === undefined) throw new PandoError('ZFS_NOT_FOUND', `There is no ${name}.`);
    return dataset;
  }

  async snapshot({ dataset, snapshot }: SnapshotReference): Promise<ListedSnapshot> {
    const found = (await this.dataset(dataset)).snapshots.find(({ name }) => name === snapshot);
    if (found === undefined) throw new PandoError('ZFS_NOT_FOUND', `There is no ${dataset}@${snapshot}.`);
    return found;
  }

  /** Names and guids of a dataset's snapshots, oldest first: what a replica must share with its source. */
  async history(name: DatasetName): Promise<string[]> {
    return (await this.dataset(name)).snapshots.map((snapshot) => `${snapshot.name} ${snapshot.guid}`);
  }

  /** Sends and receives through a pipe. */
  async transfer(send: SendRequest, receive: ReceiveRequest): Promise<Transferred> {
    const pipe = new PassThrough();
    const { signal } = new AbortController();
    const [sent, received] = await Promise.all([
      outcomeOf(this.zfs.send(send, { kind: 'stream', stream: pipe }, signal)),
      outcomeOf(this.zfs.receive(receive, { kind: 'stream', stream: pipe }, signal)),
    ]);
    return { sent, received };
  }

  /** The bytes of a stream. */
  async bytesOf(request: SendRequest): Promise<Buffer> {
    const pipe = new PassThrough();
    const chunks: Buffer[] = [];
    pipe.on('data', (chunk: Buffer) => chunks.push(chunk));
    await this.zfs.send(request, { kind: 'stream', stream: pipe }, new AbortController().signal);
    return Buffer.concat(chunks);
  }

  /** Receives from bytes. */
  async receiveBytes(receive: ReceiveRequest, bytes: Uint8Array): Promise<StreamResult> {
    const pipe = new PassThrough();
    pipe.end(bytes);
    return this.zfs.receive(receive, { kind: 'stream', stream: pipe }, new AbortController().signal);
  }

  /** Expects a refusal, and that everything below these datasets is as it was before. Returns the error. */
  async refuses(
    code: ZfsErrorCode,
    watched: readonly DatasetName[],
    attempt: () => Promise<unknown>,
  ): Promise<PandoError> {
    const before = await this.#states(watched);
    const outcome = await outcomeOf(attempt());
    expect(codeOf(outcome)).toBe(code);
    expect(await this.#states(watched)).toEqual(before);
    if ('value' in outcome || !isPandoError(outcome.error)) throw new Error('unreachable: the code was checked');
    expect(outcome.error.message).toMatch(/^Cannot .*\.$/s);
    expect(Object.keys(outcome.error.evidence)).toEqual(expect.arrayContaining(['command', 'exitCode', 'stderr']));
    return outcome.error;
  }

  /** All that a refusal must leave as it was. How much a dataset refers to now settles only with its next transaction group. */
  #states(names: readonly DatasetName[]): Promise<Omit<ListedDataset, 'referenced' | 'written'>[][]> {
    return Promise.all(
      names.map(async (name) =>
        (await this.zfs.list(name)).map(({ referenced: _referenced, written: _written, ...state }) => state),
      ),
    );
  }
}

export async function outcomeOf<T>(promise: Promise<T>): Promise<Outcome<T>> {
  return promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
}

/** The code of what was refused, `done` for what was not, or the text of an error that is none of ours. */
export function codeOf(outcome: Outcome<unknown>): string {
  if ('value' in outcome) return 'done';
  return isPandoError(outcome.error) ? outcome.error.code : String(outcome.error);
}

/** `dataset` and what is below it under that name. */
export function below(dataset: DatasetName | string, name: string): DatasetName {
  return parseDatasetName(`${dataset}/${name}`);
}

export function at(dataset: DatasetName, snapshot: string): SnapshotReference {
  return { dataset, snapshot: parseSnapshotName(snapshot) };
}

export function tag(text: string): HoldTag {
  return text as HoldTag;
}

export function full(snapshot: SnapshotReference, flags: StreamFlags = PLAIN_STREAM): SendRequest {
  return { snapshot, base: null, flags, resumeToken: null };
}

export function increment(
  base: SnapshotReference,
  snapshot: SnapshotReference,
  intermediates = false,
  flags: StreamFlags = PLAIN_STREAM,
): SendRequest {
  return { snapshot, base: { ...base, intermediates }, flags, resumeToken: null };
}

/** A receive that makes a dataset. */
export function asNew(target: DatasetName, origin: SnapshotReference | null = null, properties = {}): ReceiveRequest {
  const create = { origin, properties, snapshot: null };
  return { target, create, overPlaceholder: false, baseHeld: false, expected: null, keepPartial: false };
}

/** A receive into a dataset that is there. */
export function into(target: DatasetName): ReceiveRequest {
  return { target, create: null, overPlaceholder: false, baseHeld: false, expected: null, keepPartial: false };
}
