/**
 * Writes images as others read them: OCI image layouts (image-layout.md), as a directory or as a tar of it. The same image gives the same bytes on every node: layers are
 * not compressed, because no two compressors agree, and nothing tells a time.
 */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { isPandoError } from '../../../core/errors.ts';
import { type DiffId, type Digest, digestOf, parseDiffId } from '../../../core/layers/digest.ts';
import { configWithLayers } from '../../../core/layers/image-config.ts';
import { formatReference, parseReference } from '../../../core/layers/reference.ts';
import { requireDigest } from './image-source.ts';
import { type LayoutTarget, openTarget, unwritable } from './layout-target.ts';
import { CONTAINERD_NAME, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME } from './manifest.ts';

export interface WrittenImage {
  /** What it is called; null for no name. */
  readonly reference: string | null;
  /** JSON of its config, or of that of an image like it: what it says of layers is replaced by what was written. */
  readonly config: string;
  /** Lowest first. */
  readonly layers: readonly WrittenLayer[];
  /** Of the manifest. */
  readonly annotations?: Readonly<Record<string, string>> | undefined;
}

export interface WrittenLayer {
  /** What it has to be; null if nobody knows yet. */
  readonly diffId: DiffId | null;
  /** Its tar, uncompressed. */
  open(): AsyncIterable<Uint8Array>;
}

interface Blob {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
}

/**
 * Writes an image to `target`: a tar if that ends in `.tar`, otherwise a directory. Gives the digest of its manifest. Rejects with `ARGUMENT_INVALID` if there is something already
 * or it cannot be written, `NAME_INVALID` and `IMAGE_INVALID` for a reference and config that are none, `DIGEST_MISMATCH` for a layer that is another, and with
 * what a layer fails with; then it has left nothing behind.
 */
export async function writeImageLayout(
  target: string,
  image: WrittenImage,
  signal: AbortSignal,
): Promise<{ readonly manifest: Digest }> {
  const annotations = namesOf(image.reference);
  signal.throwIfAborted();
  const layout = await openTarget(target);
  try {
    const written = new Blobs(layout, signal);
    await layout.addText('oci-layout', JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    const layers: Blob[] = [];
    for (const layer of image.layers) layers.push(await written.layer(layer));
    const diffIds = layers.map(({ digest }) => parseDiffId(digest));
    const config = await written.text(OCI_CONFIG, configWithLayers(image.config, diffIds));
    const manifest = await written.text(OCI_MANIFEST, manifestOf(config, layers, image.annotations));
    const entry = { ...manifest, ...(annotations && { annotations }) };
    await layout.addText('index.json', JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry] }));
    signal.throwIfAborted();
    await layout.finish();
    return { manifest: manifest.digest };
  } catch (error) {
    signal.throwIfAborted();
    throw isPandoError(error) ? error : unwritable(target, error);
  } finally {
    await layout.remove();
  }
}

function manifestOf(config: Blob, layers: readonly Blob[], annotations: WrittenImage['annotations']): string {
  return JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config,
    layers,
    ...(annotations && {
      annotations: Object.fromEntries(Object.entries(annotations).sort(([a], [b]) => (a < b ? -1 : 1))),
    }),
  });
}

/** As containerd and buildkit write it: the tag by itself for whoever names the layout anyway, the whole name for an engine that imports it. */
function namesOf(reference: string | null): Readonly<Record<string, string>> | null {
  if (reference === null) return null;
  const parsed = parseReference(reference);
  const whole = formatReference(parsed);
  return { [CONTAINERD_NAME]: whole, [REF_NAME]: parsed.tag ?? whole };
}

/** What is written to a layout: each blob once. */
class Blobs {
  readonly #layout: LayoutTarget;
  readonly #signal: AbortSignal;
  readonly #written = new Set<Digest>();

  constructor(layout: LayoutTarget, signal: AbortSignal) {
    this.#layout = layout;
    this.#signal = signal;
  }

  async text(mediaType: string, text: string): Promise<Blob> {
    const digest = digestOf(text);
    await this.#layout.addText(nameOf(digest), text);
    return { mediaType, digest, size: Buffer.byteLength(text) };
  }

  async layer(layer: WrittenLayer): Promise<Blob> {
    const staged = this.#layout.staged('layer');
    const hash = createHash('sha256');
    let size = 0;
    const counted = async function* (chunks: AsyncIterable<Uint8Array>) {
      for await (const chunk of chunks) {
        hash.update(chunk);
        size += chunk.length;
        yield chunk;
      }
    };
    await pipeline(layer.open(), counted, createWriteStream(staged), { signal: this.#signal });
    const digest = parseDiffId(`sha256:${hash.digest('hex')}`);
    requireDigest('layer that was to be written', layer.diffId, digest);
    if (!this.#written.has(digest)) await this.#layout.addFile(nameOf(digest), staged, size);
    this.#written.add(digest);
    return { mediaType: OCI_LAYER, digest, size };
  }
}

function nameOf(digest: Digest): string {
  return `blobs/${digest.replace(':', '/')}`;
}
