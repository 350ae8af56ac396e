import type { Readable, Writable } from 'node:stream';
import { createDeflateRaw, createInflateRaw } from 'node:zlib';
import { type Compressor, compressInto, decompressFrom } from './compressor.ts';

/** Stands for zstd where no process is to be started: for tests and the simulator. */
export class MemoryCompressor implements Compressor {
  readonly #isThere: boolean;

  constructor({ isThere = true }: { readonly isThere?: boolean } = {}) {
    this.#isThere = isThere;
  }

  async isAvailable(): Promise<boolean> {
    return this.#isThere;
  }

  compressInto(target: Writable): Writable {
    return compressInto(createDeflateRaw({ level: 1 }), target);
  }

  decompressFrom(source: Readable): Readable {
    return decompressFrom(source, createInflateRaw());
  }
}
