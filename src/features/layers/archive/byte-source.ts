/** A stream of bytes, read in pieces of wanted sizes. Holds one chunk of it, or as much as a piece needs. */
const NOTHING = Buffer.alloc(0);

export class ByteSource {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Buffer = NOTHING;
  #isEnded = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#chunks = source[Symbol.asyncIterator]();
  }

  /** Exactly `bytes`, fewer where the source ends before. Valid until changed by whoever made the chunk. */
  async read(bytes: number): Promise<Buffer> {
    if (this.#chunk.length >= bytes) return this.#take(bytes);
    const pieces: Buffer[] = [];
    for (let missing = bytes; missing > 0; ) {
      const piece = await this.some(missing);
      if (piece === null) break;
      pieces.push(piece);
      missing -= piece.length;
    }
    return pieces.length === 1 ? (pieces[0] ?? NOTHING) : Buffer.concat(pieces);
  }

  /** What there is next, at most `bytesMax`; null at the end. */
  async some(bytesMax: number): Promise<Buffer | null> {
    while (this.#chunk.length === 0) if (!(await this.#fill())) return null;
    return this.#take(Math.min(bytesMax, this.#chunk.length));
  }

  /** How many of `bytes` there were to leave out. */
  async skip(bytes: number): Promise<number> {
    let skipped = 0;
    while (skipped < bytes) {
      const piece = await this.some(bytes - skipped);
      if (piece === null) break;
      skipped += piece.length;
    }
    return skipped;
  }

  /** Reads to the end. */
  async drain(): Promise<void> {
    this.#chunk = NOTHING;
    while (await this.#fill());
  }

  /** Lets go of the source, also where it is not at its end. */
  async close(): Promise<void> {
    if (this.#isEnded) return;
    this.#isEnded = true;
    await this.#chunks.return?.();
  }

  async #fill(): Promise<boolean> {
    if (this.#isEnded) return false;
    const next = await this.#chunks.next();
    this.#isEnded = next.done === true;
    if (next.done === true) return false;
    const { buffer, byteOffset, byteLength } = next.value;
    this.#chunk = Buffer.from(buffer, byteOffset, byteLength);
    return true;
  }

  #take(bytes: number): Buffer {
    const taken = this.#chunk.subarray(0, bytes);
    this.#chunk = this.#chunk.subarray(bytes);
    return taken;
  }
}
