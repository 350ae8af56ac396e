/**
 * The process that starts a node's commands (`launcher.ts` starts it). It stays small, since each start of a process copies the page tables of the one that starts it; and it ends with its node, as do the commands
 * that are running then.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { detachFromNode, handleOf, type RawHandle, socketOn } from '../../handover.ts';
import type { ChildEnding } from './child.ts';
import type { Order, OrderedStream, Report } from './conversation.ts';
import { complaintsOf, ENVIRONMENT, ProcessGroup } from './process-group.ts';

const running = new Map<number, ProcessGroup>();
/** What has come for children that are not started yet. */
const givenFor = new Map<number, Socket>();

function report(what: Report, handle?: RawHandle, then: () => void = () => undefined): void {
  if (process.connected === true) process.send?.(what, handle, {}, then);
  else then();
}

function start({ child: number, command, stdin, stdout }: Order & { say: 'start' }): void {
  const given = givenFor.get(number) ?? null;
  givenFor.delete(number);
  const child = spawned(command, [stdin, stdout], given);
  // The child has a copy
  given?.destroy();
  if (child instanceof Error) {
    report({ say: 'started', child: number, pid: null });
    report({ say: 'ended', child: number, ending: { exitCode: null, stderr: child.message, started: false } });
    return;
  }
  const ended = endingOf(child);
  running.set(number, new ProcessGroup(child.pid, ended));
  if (stdin === 'pipe') handOver(number, 'stdin', child.stdin);
  if (stdout === 'pipe') handOver(number, 'stdout', child.stdout);
  report({ say: 'started', child: number, pid: child.pid ?? null });
  void ended.then((ending) => {
    running.delete(number);
    report({ say: 'ended', child: number, ending });
  });
}

/**
 * Without execa, which takes as long for each start as all the rest of this together, and more memory. An error where the system takes no such words, or so many, or had no room for what was given.
 */
function spawned(
  [program = '', ...words]: readonly string[],
  ordered: readonly OrderedStream[],
  given: Socket | null,
): ChildProcess | Error {
  if (given === null && ordered.includes('given')) return new Error('Too many files are open here for another stream.');
  const stdio = [...ordered.map((stream) => (stream === 'given' ? given : stream)), 'pipe'] as StdioOptions;
  try {
    return spawn(program, words, { stdio, env: ENVIRONMENT, detached: true });
  } catch (error) {
    return error as Error;
  }
}

async function endingOf(child: ChildProcess): Promise<ChildEnding> {
  const complaints = complaintsOf(child);
  const exitCode = await new Promise<number | Error | null>((resolve) => {
    child.once('error', resolve);
    child.once('exit', resolve);
  });
  if (exitCode instanceof Error) return { exitCode: null, stderr: exitCode.message, started: false };
  return { exitCode, stderr: await complaints, started: true };
}

/** Gives the node its end of a pipe, before anything is read here. Where the child could not be started there is none. */
function handOver(child: number, stream: 'stdin' | 'stdout', end: Readable | Writable | null): void {
  if (!(end instanceof Socket)) return;
  end.on('error', () => undefined);
  detachFromNode(end);
  report({ say: 'pipe', child, stream }, handleOf(end), () => end.destroy());
}

async function leave(): Promise<void> {
  await Promise.all(Array.from(running.values(), (group) => group.end()));
  process.exit();
}

process.title = 'pando: starts zfs';
// When to end is the node's to say: these reach it too, and it may have commands to run before
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => undefined);
process.once('disconnect', () => void leave());
// Nothing comes here. It ends with the node also where Node tells nothing of the channel's end, since a pipe was on its way
process.stdin.resume().once('close', () => void leave());
process.on('message', (order: Order, handle?: RawHandle) => {
  if (order.say === 'end') void running.get(order.child)?.end();
  else if (order.say === 'start') start(order);
  else if (handle !== undefined) givenFor.set(order.child, socketOn(handle, { readable: false }));
});
