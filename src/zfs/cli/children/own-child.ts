import type { Readable, Writable } from 'node:stream';
import { execa } from 'execa';
import { describeError } from '../../../core/errors.ts';
import { type Child, type ChildEnding, type ChildStreams, CLOSED, notStarted, type Starter } from './child.ts';
import { complaintsOf, ENVIRONMENT, ProcessGroup } from './process-group.ts';

/** Starts children as this process's own. */
export function ownChildren(): Starter {
  const running = new Set<Child>();
  let isClosed = false;
  return {
    async start(command, streams) {
      if (isClosed) return notStarted(command, CLOSED);
      const child = created(command, streams);
      running.add(child);
      void child.ended.then(() => running.delete(child));
      return child;
    },
    async close() {
      isClosed = true;
      await Promise.all(Array.from(running, (child) => child.end()));
    },
  };
}

function created(command: readonly string[], streams: ChildStreams): Child {
  try {
    return new OwnChild(command, streams);
  } catch (error) {
    // Words that no program can get, which it does not even try
    return notStarted(command, describeError(error));
  }
}

/** A child of this process. */
class OwnChild implements Child {
  readonly command: readonly string[];
  readonly stdin: Writable | null;
  readonly stdout: Readable | null;
  readonly ended: Promise<ChildEnding>;
  readonly #group: ProcessGroup;

  constructor(command: readonly string[], { stdin, stdout }: ChildStreams) {
    const [program = '', ...words] = command;
    const child = execa(program, words, {
      stdin,
      stdout,
      stderr: 'pipe',
      env: ENVIRONMENT,
      extendEnv: false,
      detached: true,
      cleanup: false,
      reject: false,
      buffer: false,
      encoding: 'buffer',
      stripFinalNewline: false,
    });
    this.command = command;
    this.stdin = stdin === 'pipe' ? child.stdin : null;
    this.stdout = stdout === 'pipe' ? child.stdout : null;
    // A child that ends early makes its pipe fail; how it ended is told by `ended`
    this.stdin?.on('error', () => undefined);
    const complaints = complaintsOf(child);
    this.ended = child.then(async ({ exitCode, originalMessage }) => {
      const started = child.pid !== undefined;
      return { exitCode: exitCode ?? null, stderr: started ? await complaints : (originalMessage ?? ''), started };
    });
    this.#group = new ProcessGroup(child.pid, this.ended);
  }

  async end(): Promise<void> {
    this.stdin?.destroy();
    this.stdout?.destroy();
    await this.#group.end();
  }
}
