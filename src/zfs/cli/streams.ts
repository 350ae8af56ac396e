/**
 * Sending and receiving. A socket goes to the child as its standard output or input; a stream is piped through this process.
 *
 * zfs-fuse is different: there the daemon reads and writes the stream, on a copy of the file descriptor that it got from `zfs`, and
 * goes on when `zfs` is killed. So a socket never goes to it directly: `cat` stands between, and ending `cat` ends the stream.
 */
import type { Socket } from 'node:net';
import { type Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import type { PandoError } from '../../core/errors.ts';
import { type Attempt, zfsFailure } from '../failure.ts';
import type {
  ReceiveRequest,
  ReceiveSource,
  SendRequest,
  SendTarget,
  SnapshotReference,
  StreamResult,
} from '../zfs.ts';
import { Child, type ChildEnding, eachLine } from './child.ts';
import { failureOf, onlyBrokenPipe } from './failures.ts';
import { detachFromNode } from './handover.ts';

/**
 * Where a socket needs a relay, streams expected to be smaller than this, in bytes, are piped by Node instead: passing them on costs less than
 * starting a process.
 */
const RELAYED_BYTES_MIN = 4 * 1024 * 1024;

/** How long a sender may go on after its pipe broke, in ms: a local one ends at once. */
const LINGERS_MS_MAX = 2_000;

/** How `zfs` is started for a stream. */
export interface StreamCommand extends Attempt {
  /** Whether a socket has to go through `cat` (see above). */
  readonly relaySockets: boolean;
}

/** Words of a `zfs send`. Bases are written in full: they may lie in another dataset. */
export function sendWords({ snapshot, base }: SendRequest): string[] {
  const from = base === null ? [] : [base.intermediates ? '-I' : '-i', writtenName(base)];
  return [...from, writtenName(snapshot)];
}

/** Words of a `zfs receive`. With `-v` it tells how many bytes there were, which nobody else counts on a socket. */
export function receiveWords(
  request: ReceiveRequest,
  source: ReceiveSource['kind'],
  setsProperties: boolean,
): string[] {
  const { create, overPlaceholder, target } = request;
  const flags = ['-u', ...(source === 'socket' ? ['-v'] : []), ...(overPlaceholder ? ['-F'] : [])];
  if (create === null || !setsProperties) return ['receive', ...flags, target];
  const origin = create.origin === null ? [] : [`origin=${writtenName(create.origin)}`];
  const properties = Object.entries(create.properties).map(([name, value]) => `${name}=${value}`);
  return ['receive', ...flags, ...[...origin, ...properties].flatMap((option) => ['-o', option]), target];
}

export function writtenName({ dataset, snapshot }: SnapshotReference): string {
  return `${dataset}@${snapshot}`;
}

/** Sends. On success the target is ended, on failure it is destroyed. */
export async function runSend(command: StreamCommand, target: SendTarget, signal: AbortSignal): Promise<StreamResult> {
  const end = target.kind === 'stream' ? target.stream : target.socket;
  try {
    if (handsOver(command, target)) return await sendToSocket(command, target.socket, signal);
    return await sendToStream(command, end, signal);
  } catch (error) {
    end.destroy();
    throw error;
  }
}

/** Whether the child gets the socket itself. */
function handsOver<End extends SendTarget | ReceiveSource>(
  { relaySockets }: StreamCommand,
  end: End,
): end is Extract<End, { kind: 'socket' }> {
  return end.kind === 'socket' && !(relaySockets && (end.expectedBytes ?? RELAYED_BYTES_MIN) < RELAYED_BYTES_MIN);
}

async function sendToSocket(command: StreamCommand, socket: Socket, signal: AbortSignal): Promise<StreamResult> {
  detachFromNode(socket);
  const relayed = command.relaySockets;
  const zfs = new Child(command.command, { stdin: 'ignore', stdout: relayed ? 'pipe' : socket });
  const relay = relayed ? [relayFrom(zfs, socket)] : [];
  const [ending, relayEnding] = await untilEnded([zfs, ...relay], signal);
  if (signal.aborted) throw aborted(command, ending);
  requireSent(command, ending, relayEnding?.exitCode === 0 ? null : relayEnding);
  socket.end();
  return { bytes: null };
}

async function sendToStream(command: StreamCommand, stream: Writable, signal: AbortSignal): Promise<StreamResult> {
  const zfs = new Child(command.command, { stdin: 'ignore', stdout: 'pipe' });
  let bytes = 0;
  zfs.stdout?.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  const piped = outcome(pipeline(zfs.stdout ?? [], stream, { end: false }));
  void piped.then((failure) => (failure === null ? undefined : endIfItLingers(zfs)));
  const [ending] = await untilEnded([zfs], signal);
  if (signal.aborted) {
    stream.destroy();
    await piped;
    throw aborted(command, ending);
  }
  requireSent(command, ending, await piped);
  stream.end();
  await finished(stream, { readable: false });
  return { bytes };
}

/** Ends a sender that nobody reads any more, but not before it could say what went wrong. Through ssh it may never hear of that by itself. */
async function endIfItLingers(zfs: Child): Promise<void> {
  const timer = setTimeout(() => void zfs.end(), LINGERS_MS_MAX);
  await zfs.ended;
  clearTimeout(timer);
}

/** A `cat` from the child's output to the socket. */
function relayFrom(zfs: Child, socket: Socket): Child {
  const pipe = zfs.stdout as Socket;
  detachFromNode(pipe);
  const relay = new Child(['cat'], { stdin: pipe, stdout: socket });
  // With Node's copy open, `zfs` would not notice that `cat` is gone
  pipe.destroy();
  return relay;
}

/** Tells the two ends apart: what `zfs` says of itself is the story; a broken pipe is that of the other end. */
function requireSent(command: StreamCommand, ending: ChildEnding | undefined, farEnd: unknown): void {
  if (ending !== undefined && ending.exitCode !== 0 && !onlyBrokenPipe(ending)) throw failureOf(command, ending);
  if (farEnd == null && ending?.exitCode === 0) return;
  const how = ending ?? { exitCode: null, stderr: '' };
  throw zfsFailure('ZFS_FAILED', command, how, 'the receiving end closed the connection', {}, { cause: farEnd });
}

/** Receives. On failure the source is destroyed. */
export async function runReceive(
  command: StreamCommand,
  source: ReceiveSource,
  signal: AbortSignal,
): Promise<StreamResult> {
  const end = source.kind === 'stream' ? source.stream : source.socket;
  try {
    if (handsOver(command, source)) return await receiveFromSocket(command, source.socket, signal);
    return await receiveFromStream(command, end, signal);
  } catch (error) {
    end.destroy();
    throw error;
  }
}

async function receiveFromSocket(command: StreamCommand, socket: Socket, signal: AbortSignal): Promise<StreamResult> {
  detachFromNode(socket);
  const relay = command.relaySockets ? new Child(['cat'], { stdin: socket, stdout: 'pipe' }) : null;
  const pipe = relay === null ? socket : (relay.stdout as Socket);
  if (relay !== null) detachFromNode(pipe);
  const zfs = new Child(command.command, { stdin: pipe, stdout: 'pipe' });
  if (relay !== null) pipe.destroy();
  let bytes = 0;
  const count = (line: string): void => {
    bytes += receivedBytes(line);
  };
  const counted = zfs.stdout === null ? null : eachLine(zfs.stdout, count);
  const [ending] = await untilEnded(relay === null ? [zfs] : [zfs, relay], signal, zfs);
  await counted;
  requireReceived(command, ending, signal, undefined);
  return { bytes };
}

async function receiveFromStream(command: StreamCommand, stream: Readable, signal: AbortSignal): Promise<StreamResult> {
  const zfs = new Child(command.command, { stdin: 'pipe', stdout: 'ignore' });
  const feeding = new AbortController();
  let bytes = 0;
  const feeder = feedInto(zfs.stdin, (length) => {
    bytes += length;
  });
  const fed = outcome(pipeline(stream, feeder, { signal: feeding.signal }));
  const [ending] = await untilEnded([zfs], signal);
  if (ending?.exitCode === 0 && !signal.aborted) {
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

function requireReceived(
  command: StreamCommand,
  ending: ChildEnding | undefined,
  signal: AbortSignal,
  cause: unknown,
): void {
  if (signal.aborted) throw aborted(command, ending);
  if (ending === undefined || ending.exitCode === 0) return;
  throw failureOf(command, ending, cause);
}

/** Sizes in `zfs receive -v` have three digits and a unit of 1024: "received 257MB stream in 2 seconds". */
export function receivedBytes(line: string): number {
  const [, digits, unit = 'B'] = /^received ([\d.]+)([BKMGTPE])B? stream/.exec(line) ?? [];
  return digits === undefined ? 0 : Math.round(Number(digits) * 1024 ** 'BKMGTPE'.indexOf(unit));
}

/** Waits for the children, and ends them when the signal comes or `main` is over (the others have nothing left to do then). */
async function untilEnded(children: readonly Child[], signal: AbortSignal, main?: Child): Promise<ChildEnding[]> {
  const endAll = (): void => {
    for (const child of children) void child.end();
  };
  if (signal.aborted) endAll();
  signal.addEventListener('abort', endAll, { once: true });
  try {
    if (main !== undefined) {
      await main.ended;
      endAll();
    }
    return await Promise.all(children.map(({ ended }) => ended));
  } finally {
    signal.removeEventListener('abort', endAll);
  }
}

function aborted(command: StreamCommand, ending: ChildEnding | undefined): PandoError {
  return zfsFailure('ZFS_ABORTED', command, ending ?? { exitCode: null, stderr: '' });
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
