/** Reads an image whose blobs are files by their digest: an image layout (OCI image specification: image-layout.md), or what skopeo calls a `dir`. */
import { z } from 'zod';
import { PandoError } from '../../../core/errors.ts';
import { type Digest, digestOf } from '../../../core/layers/digest.ts';
import { IMAGE_CONFIG_BYTES_MAX, parseImageConfig } from '../../../core/layers/image-config.ts';
import { type ImageFiles, invalidImage, readWhole } from './image-files.ts';
import { type Image, imageLayer, type ReadOptions, requireDigest, requireFitting } from './image-source.ts';
import {
  CONTAINERD_NAME,
  type Descriptor,
  isIndex,
  MANIFEST_BYTES_MAX,
  parseIndex,
  parseManifest,
  REF_NAME,
  validated,
} from './manifest.ts';
import { choosePlatform } from './platform.ts';

/** An index of indexes of indexes is more than anybody makes; each may cost {@link MANIFEST_BYTES_MAX} to read. */
const INDEXES_MAX = 16;

const layoutSchema = z.object({ imageLayoutVersion: z.literal('1.0.0') });
const LAYOUT_BYTES_MAX = 4096;

/** How a kind of image names the file of a blob. */
type BlobName = (digest: Digest) => string;

const inLayout: BlobName = (digest) => `blobs/${digest.replace(':', '/')}`;
const inDirectory: BlobName = (digest) => digest.slice('sha256:'.length);

/**
 * The image in a layout that is called `name`, or the only one if that is null. Rejects with `IMAGE_UNKNOWN` where none is called so, `IMAGE_INVALID` where it is
 * not clear which is meant, none is for the platform, or it is not as it should be, and with `DIGEST_MISMATCH`.
 */
export async function openLayout(files: ImageFiles, name: string | null, options: ReadOptions): Promise<Image> {
  validated(files.source, 'layout', layoutSchema, await readWhole(files, 'oci-layout', LAYOUT_BYTES_MAX, 'layout'));
  const index = parseIndex(files.source, await readWhole(files, 'index.json', MANIFEST_BYTES_MAX, 'index'));
  const meant = withName(files.source, index.manifests, name);
  const manifests = await withoutIndexes(files, meant);
  const chosen = choosePlatform(files.source, manifests, options.platform);
  const bytes = await readBlob(files, inLayout, chosen, MANIFEST_BYTES_MAX, 'manifest');
  return openManifest(files, inLayout, bytes, options);
}

/** The image in a `dir` of skopeo. Rejects as {@link openLayout}. */
export async function openDirectory(files: ImageFiles, options: ReadOptions): Promise<Image> {
  const bytes = await readWhole(files, 'manifest.json', MANIFEST_BYTES_MAX, 'manifest');
  return openManifest(files, inDirectory, bytes, options);
}

async function openManifest(
  files: ImageFiles,
  blobName: BlobName,
  bytes: Buffer,
  options: ReadOptions,
): Promise<Image> {
  const manifest = parseManifest(files.source, bytes);
  const text = await readBlob(files, blobName, manifest.config, IMAGE_CONFIG_BYTES_MAX, 'config');
  const config = parseImageConfig(text.toString());
  requireFitting(files.source, config, manifest.layers.length, options.platform);
  for (const layer of manifest.layers) await requireSize(files, blobName, layer, 'layer');
  const layers = config.diffIds.flatMap((diffId, position) => {
    const layer = manifest.layers[position];
    if (layer === undefined) return [];
    const { digest, size } = layer;
    return imageLayer({ files, name: blobName(digest), digest, size, diffId }, options);
  });
  return { manifest: digestOf(bytes), config, layers };
}

/** Those of an index that are meant by `name`: of the same image, each perhaps for another platform. */
function withName(source: string, manifests: readonly Descriptor[], name: string | null): readonly Descriptor[] {
  const names = [...new Set(manifests.map(nameOf))];
  const shown = names.map((one) => one ?? 'one without a name').join(', ') || 'none';
  if (name === null) {
    if (names.length <= 1) return manifests;
    throw invalidImage(source, `it has several (${shown}), so that one has to be named`);
  }
  const meant = manifests.filter(({ annotations }) =>
    [annotations?.[REF_NAME], annotations?.[CONTAINERD_NAME]].includes(name),
  );
  if (meant.length > 0) return meant;
  throw new PandoError('IMAGE_UNKNOWN', `There is no image "${name}" in ${source}; there are: ${shown}.`, {
    source,
    names,
  });
}

function nameOf({ annotations }: Descriptor): string | null {
  return annotations?.[CONTAINERD_NAME] ?? annotations?.[REF_NAME] ?? null;
}

/** The manifests that are meant by these, in their order: those of an index stand where that stood. */
async function withoutIndexes(files: ImageFiles, descriptors: readonly Descriptor[]): Promise<readonly Descriptor[]> {
  const waiting = [...descriptors];
  const manifests: Descriptor[] = [];
  let indexes = 0;
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
    if (!isIndex(next)) {
      manifests.push(next);
      continue;
    }
    indexes += 1;
    if (indexes > INDEXES_MAX) throw invalidImage(files.source, `it has more than ${INDEXES_MAX} indexes`);
    const bytes = await readBlob(files, inLayout, next, MANIFEST_BYTES_MAX, 'index');
    waiting.unshift(...parseIndex(files.source, bytes).manifests);
  }
  return manifests;
}

async function readBlob(
  files: ImageFiles,
  blobName: BlobName,
  descriptor: Descriptor,
  bytesMax: number,
  what: string,
): Promise<Buffer> {
  await requireSize(files, blobName, descriptor, what);
  const bytes = await readWhole(files, blobName(descriptor.digest), bytesMax, what);
  requireDigest(`${what} of ${files.source}`, descriptor.digest, digestOf(bytes));
  return bytes;
}

async function requireSize(
  files: ImageFiles,
  blobName: BlobName,
  { digest, size }: Descriptor,
  what: string,
): Promise<void> {
  const found = await files.size(blobName(digest));
  if (found === null) throw invalidImage(files.source, `its ${what} ${digest} is not there`);
  if (found === size) return;
  throw new PandoError(
    'DIGEST_MISMATCH',
    `The ${what} ${digest} of ${files.source} has ${found} bytes instead of ${size}; fetch the image again.`,
    { digest, expected: size, found },
  );
}
