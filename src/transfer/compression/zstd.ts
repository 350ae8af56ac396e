/** Compression by the `zstd` of the machine: a process for each stream, so that it takes a core of its own and none of the node's. */
import { type ChildProcess, spawn } from 'node:child_process';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { type Compressor, compressInto, decompressFrom } from './compressor.ts';

const PROGRAM = 'zstd';
/** The fastest of the levels that compress well: higher ones gain little on file systems, and take several times as long (zstd(1)). */
const COMPRESS = ['-1', '--quiet', '--stdout'];
/** Memory that a peer can make it take, which this level needs a fraction of. */
const DECOMPRESS = ['--decompress', '--quiet', '--stdout', '--memory=32MB'];

export class Zstd implements Compressor {
  readonly #program: string;
  #available: Promise<boolean> | undefined;

  /** `program` by its name or path. */
  constructor(program = PROGRAM) {
    this.#program = program;
  }

  isAvailable(): Promise<boolean> {
    this.#available ??= succeeds(this.#program, ['--version']);
    return this.#available;
  }

  compressInto(target: Writable): Writable {
    return compressInto(running(this.#program, COMPRESS), target);
  }

  decompressFrom(source: Readable): Readable {
    return decompressFrom(source, running(this.#program, DECOMPRESS));
  }
}

function succeeds(program: string, words: readonly string[]): Promise<boolean> {
  const child = spawn(program, words, { stdio: 'ignore' });
  return new Promise((resolve) => {
    child.once('error', () => resolve(false));
    child.once('exit', (code) => resolve(code === 0));
  });
}

/** A process as a stream: it fails when that does, and when it is destroyed, that is gone. */
function running(program: string, words: readonly string[]): Duplex {
  return new ProcessStream(spawn(program, words, { stdio: ['pipe', 'pipe', 'ignore'] }));
}

class ProcessStream extends Duplex {
  readonly #child: ChildProcess;
  /** Null for both where it could not even be tried. */
  readonly #stdin: Writable | null;
  readonly #stdout: Readable | null;

  constructor(child: ChildProcess) {
    super();
    this.#child = child;
    this.#stdin = child.stdin;
    this.#stdout = child.stdout;
    const exited = new Promise<number | null>((resolve) => void child.once('exit', resolve));
    child.once('error', (error) => this.destroy(error));
    // Its exit tells what became of it
    this.#stdin?.on('error', () => undefined);
    this.#stdout?.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) this.#stdout?.pause();
    });
    this.#stdout?.once('end', () => {
      void exited.then((code) =>
        code === 0 ? this.push(null) : this.destroy(new Error(`The compressor ended with ${code ?? 'a signal'}.`)),
      );
    });
  }

  override _read(): void {
    this.#stdout?.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, next: (error?: Error | null) => void): void {
    if (this.#stdin === null) next(new Error('The compressor could not be started.'));
    else this.#stdin.write(chunk, () => next());
  }

  override _final(finish: (error?: Error | null) => void): void {
    this.#stdin?.end();
    finish();
  }

  override _destroy(error: Error | null, finish: (error: Error | null) => void): void {
    this.#child.kill('SIGKILL');
    finish(error);
  }
}
