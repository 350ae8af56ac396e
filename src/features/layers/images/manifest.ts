/** Manifests and indexes of images (OCI image specification: manifest.md, image-index.md; Docker's "Image Manifest Version 2, Schema 2" has the same fields). */
import { z } from 'zod';
import { branded } from '../../../core/event-fields.ts';
import { parseDigest } from '../../../core/layers/digest.ts';
import { IMAGE_CONFIG_BYTES_MAX, LAYERS_MAX } from '../../../core/layers/image-config.ts';
import { invalidImage } from './image-files.ts';

/** What registries take at most (OCI distribution specification, "Pushing Manifests"). */
export const MANIFEST_BYTES_MAX = 4 * 1024 * 1024;

export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';
/** What an image in a layout is called (annotations.md). */
export const REF_NAME = 'org.opencontainers.image.ref.name';
/** The same for containerd, which takes this for the whole name. */
export const CONTAINERD_NAME = 'io.containerd.image.name';

const INDEX_TYPES: readonly string[] = [OCI_INDEX, 'application/vnd.docker.distribution.manifest.list.v2+json'];
const MANIFEST_TYPES: readonly string[] = [OCI_MANIFEST, 'application/vnd.docker.distribution.manifest.v2+json'];
const CONFIG_TYPES: readonly string[] = [OCI_CONFIG, 'application/vnd.docker.container.image.v1+json'];
const LAYER_TYPES: readonly string[] = [
  OCI_LAYER,
  `${OCI_LAYER}+gzip`,
  `${OCI_LAYER}+zstd`,
  'application/vnd.docker.image.rootfs.diff.tar',
  'application/vnd.docker.image.rootfs.diff.tar.gzip',
  'application/vnd.docker.image.rootfs.diff.tar.zstd',
];
/** Layers that lie elsewhere, because their owner forbids to pass them on. */
const FOREIGN_TYPE_PATTERN = /\.foreign\.|\.nondistributable\./;

const descriptor = z.object({
  mediaType: z.string(),
  digest: branded(parseDigest),
  size: z.int().nonnegative(),
  platform: z.object({ os: z.string(), architecture: z.string() }).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
});

const mediaType = z.string().optional();
/** One file must not be both, or readers differ about what it is (OCI image specification: manifest.md, "mediaType"). */
const absent = z.undefined({ error: 'says that it is a manifest and an index' }).optional();

const indexSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType,
  manifests: z.array(descriptor),
  config: absent,
  layers: absent,
});

const manifestSchema = z.object({
  schemaVersion: z.literal(2),
  mediaType,
  manifests: absent,
  config: descriptor,
  layers: z.array(descriptor).max(LAYERS_MAX),
});

export type Descriptor = z.infer<typeof descriptor>;
export type Index = z.infer<typeof indexSchema>;
export type Manifest = z.infer<typeof manifestSchema>;

export function isIndex({ mediaType }: Descriptor): boolean {
  return INDEX_TYPES.includes(mediaType);
}

export function isManifest({ mediaType }: Descriptor): boolean {
  return MANIFEST_TYPES.includes(mediaType);
}

/** Throws `IMAGE_INVALID`. */
export function parseIndex(source: string, bytes: Uint8Array): Index {
  const index = validated(source, 'index', indexSchema, bytes);
  if (index.mediaType === undefined || INDEX_TYPES.includes(index.mediaType)) return index;
  throw invalidImage(source, `its index says that it is "${index.mediaType}"`);
}

/** Throws `IMAGE_INVALID`, also where a layer is not one that can be unpacked here. */
export function parseManifest(source: string, bytes: Uint8Array): Manifest {
  const manifest = validated(source, 'manifest', manifestSchema, bytes);
  const { mediaType, config, layers } = manifest;
  if (mediaType !== undefined && !MANIFEST_TYPES.includes(mediaType)) {
    throw invalidImage(source, `its manifest says that it is "${mediaType}"`);
  }
  if (!CONFIG_TYPES.includes(config.mediaType)) {
    throw invalidImage(source, `it is no file system but "${config.mediaType}"`);
  }
  if (config.size > IMAGE_CONFIG_BYTES_MAX) {
    throw invalidImage(source, `its config has ${config.size} bytes, more than ${IMAGE_CONFIG_BYTES_MAX}`);
  }
  for (const layer of layers) requireLayerType(source, layer);
  return manifest;
}

function requireLayerType(source: string, { mediaType, digest }: Descriptor): void {
  if (LAYER_TYPES.includes(mediaType)) return;
  const why = FOREIGN_TYPE_PATTERN.test(mediaType)
    ? 'may not be passed on and lies elsewhere'
    : 'is of an unknown kind';
  throw invalidImage(source, `its layer ${digest} ${why} ("${mediaType}")`);
}

/** Throws `IMAGE_INVALID` where the JSON in `bytes` is not of that form; `what` it is, for people. */
export function validated<T>(source: string, what: string, schema: z.ZodType<T>, bytes: Uint8Array): T {
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString());
  } catch {
    // What it says would quote the file, which a link may have made another than was meant
    throw invalidImage(source, `its ${what} is not JSON`);
  }
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalidImage(source, `its ${what} is not as it should be (${issue?.path.join('.')}: ${issue?.message})`);
}
