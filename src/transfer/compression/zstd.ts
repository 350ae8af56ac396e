/** Compression by the `zstd` of the machine: a process for each stream, so that it takes a core of its own and none of the node's. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Duplex, type Readable, type Writable } from 'node:stream';
import { type Compressor, compressInto, decompressFrom } from './compressor.ts';

const PROGRAM = 'zstd';
/** The fastest of the levels that compress well: higher ones gain little on file systems, and take several times as long (zstd(1)). */
const COMPRESS = ['-1', '--quiet', '--stdout'];
/** Memory that a peer can make it take, which this level needs a fraction of. */
const DECOMPRESS = ['--decompress', '--quiet', '--stdout', '--memory=32MB'];

export class Zstd implements Compressor {
  #available: Promise<boolean> | undefined;

  isAvailable(): Promise<boolean> {
    this.#available ??= succeeds(['--version']);
    return this.#available;
  }

  compressInto(target: Writable): Writable {
    return compressInto(running(COMPRESS), target);
  }

  decompressFrom(source: Readable): Readable {
    return decompressFrom(source, running(DECOMPRESS));
  }
}

async function succeeds(words: readonly string[]): Promise<boolean> {
  const child = spawn(PROGRAM, words, { stdio: 'ignore' });
  const [code] = await Promise.race([once(child, 'exit'), once(child, 'error').then(() => [null])]);
  return code === 0;
}

/** A process as a stream: it fails when that does, and when it is destroyed, that is gone. */
function running(words: readonly string[]): Duplex {
  const child = spawn(PROGRAM, words, { stdio: ['pipe', 'pipe', 'ignore'] });
  return new ProcessStream(child);
}

class ProcessStream extends Duplex {
  readonly #child: ChildProcess;
  readonly #stdin: Writable;
  readonly #stdout: Readable;

  constructor(child: ChildProcess) {
    super();
    this.#child = child;
    this.#stdin = child.stdin as Writable;
    this.#stdout = child.stdout as Readable;
    const exited = once(child, 'exit').then(([code]) => code as number | null);
    child.on('error', (error) => this.destroy(error));
    // Its exit tells what became of it
    this.#stdin.on('error', () => undefined);
    this.#stdout.on('data', (chunk: Buffer) => {
      if (!this.push(chunk)) this.#stdout.pause();
    });
    this.#stdout.once('end', () => {
      void exited.then(
        (code) => (code === 0 ? this.push(null) : this.destroy(new Error(`${PROGRAM} ended with ${code}`))),
        () => undefined,
      );
    });
  }

  override _read(): void {
    this.#stdout.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, next: (error?: Error | null) => void): void {
    this.#stdin.write(chunk, () => next());
  }

  override _final(finish: (error?: Error | null) => void): void {
    this.#stdin.end();
    finish();
  }

  override _destroy(error: Error | null, finish: (error: Error | null) => void): void {
    this.#child.kill('SIGKILL');
    finish(error);
  }
}
