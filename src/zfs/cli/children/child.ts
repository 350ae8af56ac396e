/** A process that runs `zfs` or `zpool`, and who starts it. */
import type { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';

/** How a child ended. */
export interface ChildEnding {
  /** Null when a signal ended it, when it could not be started, or when nobody could see how it ended. */
  readonly exitCode: number | null;
  /** Its standard error, 64 KiB of it at most; why it could not be started otherwise. */
  readonly stderr: string;
  readonly started: boolean;
}

/** What a standard stream of a child is: nothing, a pipe to this process, or an end that the child alone uses. */
export type ChildStream = 'ignore' | 'pipe' | Socket;

/** One of them at most is a socket. */
export interface ChildStreams {
  readonly stdin: ChildStream;
  readonly stdout: ChildStream;
}

/** A running process in a process group of its own. */
export interface Child {
  readonly command: readonly string[];
  /** Null where it is not a pipe, and where the child could not be started. */
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  /** Resolves when the process is gone and its standard error read; never rejects. */
  readonly ended: Promise<ChildEnding>;
  /** Ends the process group, by force if it takes too long, and waits until the process is gone. Its pipes are closed. */
  end(): Promise<void>;
}

/** Starts `command`, program first, without a shell. Never rejects: of a child that could not be started, `ended` tells. */
export interface Starter {
  start(command: readonly string[], streams: ChildStreams): Promise<Child>;
  /** Ends what it started and what it keeps running for itself. Whatever comes later is not started. */
  close(): Promise<void>;
}

/** A child that could not be started, and why. */
export function notStarted(command: readonly string[], why: string): Child {
  const ended = Promise.resolve({ exitCode: null, stderr: why, started: false });
  return { command, stdin: null, stdout: null, ended, end: async () => void (await ended) };
}

/** What is said of whatever is to be started by a starter that is closed. */
export const CLOSED = 'This node is being stopped, and starts no command any more.';
