/**
 * Sending and receiving. A socket goes to the child as its standard output or input; a stream is piped through this process.
 *
 * Ending `zfs` does not end a stream everywhere: in zfs-fuse the daemon reads and writes it, on a copy of the descriptor that it got from
 * `zfs`, and goes on. So a socket is also shut down, which reaches every copy of it: a sender's daemon finds its pipe broken, and the
 * sender at the other end of a receiver's hears of it, because it listens, and shuts down its side.
 */
import type { Socket } from 'node:net';
import { type Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import type { PandoError } from '../../core/errors.ts';
import type { DatasetName } from '../../core/ids.ts';
import { writtenFlags } from '../../core/stream-flags.ts';
import { differenceTo } from '../begin-check.ts';
import { type Attempt, zfsFailure } from '../failure.ts';
import { detachFromNode, endWithFarEnd } from '../handover.ts';
import { peekAtBegin } from '../peek.ts';
import type {
  BookmarkReference,
  ExpectedStream,
  ReceiveRequest,
  ReceiveSource,
  SendRequest,
  SendTarget,
  SnapshotReference,
  StreamHead,
  StreamResult,
  Unreadable,
  ZfsCapabilities,
} from '../zfs.ts';
import type { Child, ChildEnding, Starter } from './children/child.ts';
import { failureOf, onlyBrokenPipe } from './failures.ts';
import { eachLine } from './lines.ts';

/** How long a sender may go on after its pipe broke, in ms: a local one ends at once. */
const LINGERS_MS_MAX = 2_000;

/** Words of a `zfs send`. Bases are written in full: they may lie in another dataset. */
export function sendWords({ snapshot, base, flags, resumeToken }: SendRequest): string[] {
  if (resumeToken !== null) return ['-t', resumeToken];
  const made = Array.from(writtenFlags(flags), (letter) => `-${letter}`);
  return [...made, ...baseWords(base), writtenName(snapshot)];
}

function baseWords(base: SendRequest['base']): string[] {
  if (base === null) return [];
  if ('bookmark' in base) return ['-i', writtenBookmark(base)];
  return [base.intermediates ? '-I' : '-i', writtenName(base)];
}

/**
 * Properties that no peer may set here, whatever its stream carries (zfs-rules, "Properties"): they say where a dataset is mounted, who else reads it, and
 * what the files in it can do.
 */
const NEVER_TAKEN = ['mountpoint', 'sharenfs', 'sharesmb', 'setuid', 'exec', 'devices'];
/** What a replica has of its own from its first receive on. */
const KEPT_BY_REPLICA = ['canmount', 'readonly'];

/** Words of a `zfs receive`. With `-v` it tells how many bytes there were, which nobody else counts on a socket. */
export function receiveWords(
  request: ReceiveRequest,
  source: ReceiveSource['kind'],
  { receiveProperties, resumableReceive }: Pick<ZfsCapabilities, 'receiveProperties' | 'resumableReceive'>,
): string[] {
  const { create, overPlaceholder } = request;
  const target = create?.snapshot == null ? request.target : `${request.target}@${create.snapshot}`;
  const keeps = request.keepPartial && resumableReceive;
  const flags = [
    ...(keeps ? ['-s'] : []),
    '-u',
    ...(source === 'socket' ? ['-v'] : []),
    ...(overPlaceholder ? ['-F'] : []),
  ];
  if (!receiveProperties) return ['receive', ...flags, target];
  const excluded = (names: readonly string[]): string[] => names.flatMap((name) => ['-x', name]);
  if (create === null) return ['receive', ...flags, ...excluded([...NEVER_TAKEN, ...KEPT_BY_REPLICA]), target];
  const refused = excluded(NEVER_TAKEN.filter((name) => !(name in create.properties)));
  const origin = create.origin === null ? [] : [`origin=${writtenName(create.origin)}`];
  const properties = Object.entries(create.properties).map(([name, value]) => `${name}=${value}`);
  return ['receive', ...flags, ...refused, ...[...origin, ...properties].flatMap((option) => ['-o', option]), target];
}

export function writtenName({ dataset, snapshot }: SnapshotReference): string {
  return `${dataset}@${snapshot}`;
}

/** The dataset of each. */
export function datasetsOf(snapshots: readonly SnapshotReference[]): DatasetName[] {
  return Array.from(new Set(snapshots.map(({ dataset }) => dataset)));
}

export function writtenBookmark({ dataset, bookmark }: BookmarkReference): string {
  return `${dataset}#${bookmark}`;
}

/** A `zfs send` or `zfs receive`, and who starts it. */
export interface StreamCommand extends Attempt {
  readonly starter: Starter;
}

/** A `zfs send`, and which ZFS it is. */
export interface SendCommand extends StreamCommand {
  readonly dialect: ZfsCapabilities['dialect'];
}

/** Sends. On success the target is ended, on failure it is destroyed. */
export async function runSend(command: SendCommand, target: SendTarget, signal: AbortSignal): Promise<StreamResult> {
  const end = target.kind === 'stream' ? target.stream : target.socket;
  forgiven(end);
  try {
    if (target.kind === 'socket') return await sendToSocket(command, target.socket, signal);
    return await sendToStream(command, target.stream, signal);
  } catch (error) {
    end.destroy();
    throw error;
  }
}

/** An end may fail while nobody listens, before `zfs` has it: that it did is seen then. */
function forgiven(end: Readable | Writable): void {
  end.on('error', () => undefined);
}

async function sendToSocket(command: SendCommand, socket: Socket, signal: AbortSignal): Promise<StreamResult> {
  detachFromNode(socket);
  const zfs = await command.starter.start(command.command, { stdin: 'ignore', stdout: socket });
  endWithFarEnd(socket);
  const ending = await untilEnded(zfs, signal, () => shutDown(socket));
  if (signal.aborted) throw aborted(command, ending);
  // The far end of a stream that is complete may be gone already
  requireSent(command, ending, ending.exitCode === 0 ? null : endedEarly(socket));
  await shutDown(socket);
  return { bytes: null };
}

/** Ends this side of the connection, for all processes that have the socket. */
function shutDown(socket: Socket): Promise<void> {
  // One that is closed would never say that it has ended
  if (socket.destroyed) return Promise.resolve();
  return new Promise((resolve) => void socket.end(resolve));
}

async function sendToStream(command: SendCommand, stream: Writable, signal: AbortSignal): Promise<StreamResult> {
  const zfs = await command.starter.start(command.command, { stdin: 'ignore', stdout: 'pipe' });
  let bytes = 0;
  zfs.stdout?.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  const piped = outcome(pipeline(zfs.stdout ?? [], stream, { end: false }));
  void piped.then((failure) => (failure === null ? undefined : endIfItLingers(zfs)));
  // The far end may leave what `zfs` sent lying long after that has ended
  const giveUp = (): void => void stream.destroy();
  if (signal.aborted) giveUp();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    const ending = await untilEnded(zfs, signal);
    const broken = await piped;
    if (signal.aborted) throw aborted(command, ending);
    requireSent(command, ending, broken ?? endedEarly(stream));
    stream.end();
    const unflushed = await outcome(finished(stream, { readable: false }));
    if (signal.aborted) throw aborted(command, ending);
    requireSent(command, ending, unflushed);
    return { bytes };
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}

/** A socket whose far end went away is ended by Node, and a pipeline may take that for its own end. */
function endedEarly(stream: Writable): Error | null {
  return stream.writableEnded || stream.destroyed ? new Error('The connection was ended from the other side.') : null;
}

/** Ends a sender that nobody reads any more, but not before it could say what went wrong. Through ssh it may never hear of that by itself. */
async function endIfItLingers(zfs: Child): Promise<void> {
  const timer = setTimeout(() => void zfs.end(), LINGERS_MS_MAX);
  await zfs.ended;
  clearTimeout(timer);
}

/** Tells the two ends apart: what `zfs` says of itself is the story; a broken pipe is that of the other end. */
function requireSent(command: SendCommand, ending: ChildEnding, farEnd: unknown): void {
  if (farEnd === null && ending.exitCode === 0) return;
  if (ending.exitCode !== 0 && !onlyBrokenPipe(ending, farEnd !== null, command.dialect)) {
    throw failureOf(command, ending);
  }
  throw zfsFailure('ZFS_FAILED', command, ending, 'the receiving end closed the connection', {}, { cause: farEnd });
}

/** Receives what is expected, or whatever comes. On failure the source is destroyed. */
export async function runReceive(
  command: StreamCommand,
  source: ReceiveSource,
  signal: AbortSignal,
  expected: ExpectedStream | null,
): Promise<StreamResult> {
  const end = source.kind === 'stream' ? source.stream : source.socket;
  forgiven(end);
  try {
    if (source.kind === 'socket') {
      if (expected !== null && source.head !== null) requireExpected(command, source.head, expected);
      return await receiveFromSocket(command, source.socket, signal);
    }
    // While no process has it yet
    if (expected !== null) requireExpected(command, await peekAtBegin(source.stream, signal), expected);
    return await receiveFromStream(command, source.stream, signal);
  } catch (error) {
    end.destroy();
    throw error;
  }
}

function requireExpected(command: Attempt, head: StreamHead | Unreadable, expected: ExpectedStream): void {
  const ending = { exitCode: null, stderr: '' };
  if (head === 'aborted') throw zfsFailure('ZFS_ABORTED', command, ending);
  if (head === 'properties') {
    const why = 'it carries properties, which no peer may set here';
    throw zfsFailure('ZFS_STREAM_MISMATCH', command, ending, why, { expected, found: head });
  }
  if (typeof head === 'string') throw zfsFailure('ZFS_STREAM_INVALID', command, ending, UNREADABLE_BEGIN[head]);
  const difference = differenceTo(expected, head);
  if (difference !== undefined) {
    throw zfsFailure('ZFS_STREAM_MISMATCH', command, ending, difference, { expected, found: head });
  }
}

const UNREADABLE_BEGIN: Readonly<Record<Exclude<Unreadable, 'aborted' | 'properties'>, string>> = {
  broken: 'it broke off before its begin',
  ended: 'it ended before its begin',
  none: 'its first bytes are not those of a stream',
};

async function receiveFromSocket(command: StreamCommand, socket: Socket, signal: AbortSignal): Promise<StreamResult> {
  detachFromNode(socket);
  const zfs = await command.starter.start(command.command, { stdin: socket, stdout: 'pipe' });
  let bytes = 0;
  const count = (line: string): void => {
    bytes += receivedBytes(line);
  };
  const counted = zfs.stdout === null ? null : eachLine(zfs.stdout, count);
  const ending = await untilEnded(zfs, signal, () => shutDown(socket));
  await counted;
  requireReceived(command, ending, signal, undefined);
  return { bytes };
}

async function receiveFromStream(command: StreamCommand, stream: Readable, signal: AbortSignal): Promise<StreamResult> {
  const zfs = await command.starter.start(command.command, { stdin: 'pipe', stdout: 'ignore' });
  const feeding = new AbortController();
  let bytes = 0;
  const feeder = feedInto(zfs.stdin, (length) => {
    bytes += length;
  });
  const fed = outcome(pipeline(stream, feeder, { signal: feeding.signal }));
  const ending = await untilEnded(zfs, signal);
  if (ending.exitCode === 0 && !signal.aborted) {
    // What comes after the end of the stream is read and dropped, so that the other end can finish
    return { bytes };
  }
  feeding.abort();
  const failure = await fed;
  requireReceived(command, ending, signal, isAbort(failure) ? undefined : failure);
  return { bytes };
}

/** Passes bytes on as long as the child takes them, and swallows them afterwards: how the child ended is the story, not its pipe. */
function feedInto(stdin: Writable | null, onBytes: (length: number) => void): Writable {
  const gone = (): boolean => stdin === null || stdin.destroyed || stdin.writableEnded;
  return new Writable({
    write(chunk: Buffer, _encoding, callback) {
      if (gone()) return callback();
      onBytes(chunk.length);
      stdin?.write(chunk, () => callback());
    },
    final(callback) {
      stdin?.end();
      callback();
    },
    destroy(error, callback) {
      stdin?.destroy();
      callback(error);
    },
  });
}

function requireReceived(command: Attempt, ending: ChildEnding, signal: AbortSignal, cause: unknown): void {
  if (signal.aborted) throw aborted(command, ending);
  if (ending.exitCode === 0) return;
  throw failureOf(command, ending, cause);
}

/** Sizes in `zfs receive -v` have three digits and a unit of 1024: "received 257MB stream in 2 seconds". */
export function receivedBytes(line: string): number {
  const [, digits, unit = 'B'] = /^received ([\d.]+)([BKMGTPE])B? stream/.exec(line) ?? [];
  return digits === undefined ? 0 : Math.round(Number(digits) * 1024 ** 'BKMGTPE'.indexOf(unit));
}

/** Waits for the child; when the signal comes it is ended, and `onAbort` sees to what it leaves behind. */
async function untilEnded(child: Child, signal: AbortSignal, onAbort?: () => Promise<void>): Promise<ChildEnding> {
  let cleared: Promise<void> | undefined;
  const end = (): void => {
    void child.end();
    cleared = onAbort?.();
  };
  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  try {
    return await child.ended;
  } finally {
    signal.removeEventListener('abort', end);
    await cleared;
  }
}

function aborted(command: Attempt, ending: ChildEnding): PandoError {
  return zfsFailure('ZFS_ABORTED', command, ending);
}

/** The error of a promise, or null: for what is awaited later than it may fail. */
function outcome(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => null,
    (error: unknown) => error,
  );
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
