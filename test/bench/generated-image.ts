/** An image for benchmarks: the same bytes each time, thousands of files of mixed sizes. */
import { createCipheriv } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { execa } from 'execa';
import type { FixtureLayer } from '../features/layers/images/image-fixture.ts';
import { layerWith, writeImage } from '../platform/sample-image.ts';

const KIB = 1024;
/** Files of one layer, as images have them: many small ones, a few large ones. Together 30 MiB. */
const FILES = [
  { count: 320, bytes: 4 * KIB },
  { count: 60, bytes: 64 * KIB },
  { count: 19, bytes: 512 * KIB },
  { count: 1, bytes: 15_700 * KIB },
] as const;
const FILES_PER_DIRECTORY = 40;

export interface GeneratedImage {
  /** An OCI layout, whose image is called `one`. */
  readonly layout: string;
  /** The same as an archive. */
  readonly archive: string;
  readonly files: number;
  readonly megabytes: number;
  /** Of the layers as they are stored. */
  readonly blobBytes: number;
}

/** Half of it compresses to nothing, half not at all. */
class Bytes {
  readonly #cipher: ReturnType<typeof createCipheriv>;

  constructor(seed: number) {
    this.#cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  }

  next(count: number): Buffer {
    const half = this.#cipher.update(Buffer.alloc(count >> 1));
    return Buffer.concat([half, Buffer.alloc(count - half.length, 'text ')]);
  }
}

async function fill(tree: string, layer: number): Promise<void> {
  const bytes = new Bytes(layer + 1);
  let written = 0;
  for (const { count, bytes: size } of FILES) {
    for (let index = 0; index < count; index += 1) {
      const path = join(tree, `layer-${layer}`, `d${Math.floor(written / FILES_PER_DIRECTORY)}`, `file-${written}`);
      await mkdir(dirname(path), { recursive: true });
      await writeFile(path, bytes.next(size));
      written += 1;
    }
  }
}

/** Writes an image of that many layers into a directory. */
export async function generateImage(directory: string, layers: number): Promise<GeneratedImage> {
  const made: FixtureLayer[] = [];
  for (let index = 0; index < layers; index += 1) made.push(await layerWith((tree) => fill(tree, index)));
  const layout = await writeImage(join(directory, 'image'), 'one', made);
  const archive = join(directory, 'image.tar');
  await execa('tar', ['-C', layout, '-cf', archive, '.']);
  const perLayer = FILES.reduce((sum, { count, bytes }) => sum + count * bytes, 0);
  return {
    layout,
    archive,
    files: layers * FILES.reduce((sum, { count }) => sum + count, 0),
    megabytes: (layers * perLayer) / 1_000_000,
    blobBytes: made.reduce((sum, { blob }) => sum + blob.length, 0),
  };
}
