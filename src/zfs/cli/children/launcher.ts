/**
 * Starts commands from a small process instead of the node itself. Each start of a process copies the page tables of the one that starts it, and stops it meanwhile: 1 ms from one of
 * 50 MB, 16 ms from a node of 370 MB. The node gives that process its end of a stream, and gets those of the pipes; of what passes there it sees nothing.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { handleOf, type RawHandle, socketOn } from '../../handover.ts';
import { type Child, type ChildEnding, type ChildStreams, CLOSED, notStarted, type Starter } from './child.ts';
import type { Order, OrderedStream, Report } from './conversation.ts';
import { signalGroup } from './process-group.ts';

const NO_ROOM = 'The system has no room for another process.';
const LOST = 'The process that starts commands for this node has ended, and what it had started was ended after it.';
const GIVEN_END_CLOSED = 'The connection that the command was to use is closed.';
const PIPE_LOST = 'Too many files are open here for the output of another command.';

/** How long what a launcher that has ended leaves behind may take to end, in ms: after that it hangs in the kernel, where nothing reaches it. */
const ORPHANS_END_MS = 5_000;
/** The system does not tell when a process ends that is not one's own child, so it is asked this often, in ms. */
const ORPHANS_POLL_MS = 20;

/** Starts the small process with the first command, and again should it have ended. */
export class Launcher implements Starter {
  readonly #program: string;
  #process: LaunchingProcess | undefined;
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /** `program` is the path of the compiled `program.ts`. */
  constructor(program: string) {
    this.#program = program;
  }

  /**
   * One after the other, which is how that process starts them: so the channel is never full, and nothing waits there with an end of a stream that
   * may be closed meanwhile.
   */
  start(command: readonly string[], streams: ChildStreams): Promise<Child> {
    const started = this.#turn.then(() => this.#start(command, streams));
    this.#turn = started.catch(() => undefined);
    return started;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#turn;
    await this.#process?.close();
  }

  async #start(command: readonly string[], streams: ChildStreams): Promise<Child> {
    if (this.#isClosed) return notStarted(command, CLOSED);
    if (this.#process === undefined || this.#process.hasEnded) {
      const child = forked(this.#program);
      if (child === null) return notStarted(command, NO_ROOM);
      this.#process = new LaunchingProcess(child);
    }
    return this.#process.start(command, streams);
  }
}

function forked(program: string): ChildProcess | null {
  try {
    // Its input is only there to end with this node
    const child = fork(program, [], { execArgv: [], stdio: ['pipe', 'ignore', 'inherit', 'ipc'] });
    // That it could not be started or told something is seen by its end
    child.on('error', () => undefined);
    child.stdin?.on('error', () => undefined);
    return child.pid === undefined ? null : child;
  } catch {
    return null;
  }
}

/** One such process, from its start to its end. */
class LaunchingProcess {
  readonly #channel: ChildProcess;
  readonly #children = new Map<number, LaunchedChild>();
  readonly #exited: Promise<void>;
  #count = 0;

  constructor(channel: ChildProcess) {
    this.#channel = channel;
    this.#exited = new Promise((resolve) => void channel.once('exit', () => resolve()));
    channel.on('message', (report: Report, handle?: RawHandle) => this.#hear(report, handle));
    // Both come behind everything that it has said. With a connection on its way to it there is no `disconnect`, and where this node disconnects no `close` (nodejs/node#65646)
    channel.once('disconnect', () => this.#lose());
    channel.once('close', () => this.#lose());
    // A node that has nothing else to do ends, and this with it
    channel.unref();
    if (channel.stdin instanceof Socket) channel.stdin.unref();
    channel.channel?.unref();
  }

  get hasEnded(): boolean {
    return !this.#channel.connected;
  }

  async start(command: readonly string[], { stdin, stdout }: ChildStreams): Promise<Child> {
    const given = [stdin, stdout].find((stream): stream is Socket => typeof stream === 'object');
    const handle = given === undefined ? undefined : handleOf(given);
    if (given !== undefined && handle === undefined) return notStarted(command, GIVEN_END_CLOSED);
    this.#count += 1;
    const number = this.#count;
    const pipes = [stdin, stdout].filter((stream) => stream === 'pipe').length;
    const child = new LaunchedChild(command, pipes, () => this.#tell({ say: 'end', child: number }));
    this.#children.set(number, child);
    this.#channel.channel?.ref();
    if (handle !== undefined) this.#tell({ say: 'given', child: number }, handle);
    this.#tell({ say: 'start', child: number, command, stdin: ordered(stdin), stdout: ordered(stdout) });
    await child.started;
    return child;
  }

  /** Ends what is running, and the process. */
  async close(): Promise<void> {
    await Promise.all(Array.from(this.#children.values(), (child) => child.end()));
    this.#channel.ref();
    if (this.#channel.connected) this.#channel.disconnect();
    // One that has only begun does not hear of the channel
    this.#channel.stdin?.destroy();
    await this.#exited;
  }

  #tell(order: Order, handle?: RawHandle): void {
    // One that has gone says so by its exit
    if (this.#channel.connected) this.#channel.send(order, handle, {}, () => undefined);
  }

  #hear(report: Report, handle: RawHandle | undefined): void {
    const child = this.#children.get(report.child);
    switch (report.say) {
      case 'pipe':
        if (handle !== undefined) child?.take(report.stream, handle);
        return;
      case 'started':
        child?.begin(report.pid);
        return;
      case 'ended':
        child?.finish(report.ending);
        this.#forget(report.child);
    }
  }

  #forget(number: number): void {
    this.#children.delete(number);
    if (this.#children.size === 0) this.#channel.channel?.unref();
  }

  #lose(): void {
    for (const [number, child] of this.#children) {
      void child.lose();
      this.#forget(number);
    }
  }
}

function ordered(stream: ChildStreams['stdin']): OrderedStream {
  return typeof stream === 'object' ? 'given' : stream;
}

class LaunchedChild implements Child {
  readonly command: readonly string[];
  readonly started: Promise<void>;
  readonly ended: Promise<ChildEnding>;
  readonly #askToEnd: () => void;
  /** Of its pipes, how many have not come. */
  #missing: number;
  #pipes: { stdin: Socket | null; stdout: Socket | null } = { stdin: null, stdout: null };
  #pid: number | null = null;
  #start: () => void = () => undefined;
  #end: (ending: ChildEnding) => void = () => undefined;

  constructor(command: readonly string[], pipes: number, askToEnd: () => void) {
    this.command = command;
    this.#missing = pipes;
    this.#askToEnd = askToEnd;
    this.started = new Promise((resolve) => {
      this.#start = resolve;
    });
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
  }

  get stdin(): Socket | null {
    return this.#pipes.stdin;
  }

  get stdout(): Socket | null {
    return this.#pipes.stdout;
  }

  take(stream: 'stdin' | 'stdout', handle: RawHandle): void {
    const pipe = socketOn(handle, { readable: stream === 'stdout' });
    // A child that ends early makes its pipe fail; how it ended is told by `ended`
    pipe.on('error', () => undefined);
    this.#pipes[stream] = pipe;
    this.#missing -= 1;
  }

  begin(pid: number | null): void {
    this.#pid = pid;
    if (this.#isCutOff()) this.#askToEnd();
    this.#start();
  }

  finish(ending: ChildEnding): void {
    this.stdin?.destroy();
    if (this.#isCutOff()) this.#end({ exitCode: null, stderr: PIPE_LOST, started: true });
    else this.#end(ending);
  }

  /** A system that has no room for a descriptor drops it, and what a command says there would seem to be nothing. */
  #isCutOff(): boolean {
    return this.#pid !== null && this.#missing > 0;
  }

  async end(): Promise<void> {
    this.stdin?.destroy();
    this.stdout?.destroy();
    this.#askToEnd();
    await this.ended;
  }

  /** Without who started it, nobody sees how it ends, and what it was for begins anew: so it is ended first. */
  async lose(): Promise<void> {
    this.stdin?.destroy();
    this.stdout?.destroy();
    if (this.#pid !== null) await groupEnded(this.#pid);
    this.#end({ exitCode: null, stderr: LOST, started: true });
    this.#start();
  }
}

/** Ends a process group by force; resolves once it is gone, or nothing reaches it any more. */
async function groupEnded(group: number): Promise<void> {
  const lastLook = performance.now() + ORPHANS_END_MS;
  while (signalGroup(group, 'SIGKILL') && performance.now() < lastLook) await delay(ORPHANS_POLL_MS);
}
