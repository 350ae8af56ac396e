/** Reads what `docker save` writes (moby, "Docker Image Specification v1.2.0": "Combined Image JSON + Filesystem Changeset Format"). */
import { z } from 'zod';
import { PandoError } from '../../../core/errors.ts';
import { digestOf, isDigest } from '../../../core/layers/digest.ts';
import { IMAGE_CONFIG_BYTES_MAX, LAYERS_MAX, parseImageConfig } from '../../../core/layers/image-config.ts';
import { type ImageFiles, invalidImage, readWhole } from './image-files.ts';
import { type Image, imageLayer, type ReadOptions, requireDigest, requireFitting } from './image-source.ts';
import { MANIFEST_BYTES_MAX, validated } from './manifest.ts';

const archiveSchema = z
  .array(
    z.object({
      Config: z.string().min(1),
      RepoTags: z.array(z.string()).nullish(),
      Layers: z.array(z.string().min(1)).max(LAYERS_MAX),
    }),
  )
  .min(1);

type ArchivedImage = z.infer<typeof archiveSchema>[number];

/**
 * The image that has the tag `name`, or the only one if that is null. Rejects with `IMAGE_UNKNOWN` where none has it, `IMAGE_INVALID` where it is not clear which
 * is meant or it is not as it should be, and with `DIGEST_MISMATCH` for a config that is not what its name says.
 */
export async function openDockerArchive(files: ImageFiles, name: string | null, options: ReadOptions): Promise<Image> {
  const bytes = await readWhole(files, 'manifest.json', MANIFEST_BYTES_MAX, 'manifest');
  const image = withTag(files.source, validated(files.source, 'manifest', archiveSchema, bytes), name);
  const text = await readWhole(files, image.Config, IMAGE_CONFIG_BYTES_MAX, 'config');
  const id = digestOf(text);
  requireDigest(`config of ${files.source}`, digestInName(image.Config), id);
  const config = parseImageConfig(text.toString());
  requireFitting(files.source, config, image.Layers.length, options.platform);
  const layers = await Promise.all(
    config.diffIds.map(async (diffId, position) => {
      const layer = image.Layers[position] ?? '';
      const size = await files.size(layer);
      if (size === null) throw invalidImage(files.source, `its layer "${layer}" is not there`);
      return imageLayer({ files, name: layer, digest: null, size, diffId }, options);
    }),
  );
  return { manifest: id, config, layers };
}

/** Tags are written with their `:latest`, which people leave out. */
function withTag(source: string, images: readonly ArchivedImage[], name: string | null): ArchivedImage {
  const tags = images.flatMap(({ RepoTags }) => RepoTags ?? []);
  const [only] = images;
  const shown = tags.join(', ') || 'none with a name';
  if (name === null) {
    if (images.length === 1 && only !== undefined) return only;
    throw invalidImage(source, `it has several (${shown}), so that one has to be named`);
  }
  const meant = images.find(({ RepoTags }) => RepoTags?.some((tag) => tag === name || tag === `${name}:latest`));
  if (meant !== undefined) return meant;
  throw new PandoError('IMAGE_UNKNOWN', `There is no image "${name}" in ${source}; there are: ${shown}.`, {
    source,
    tags,
  });
}

/** A config is called by its digest: `HEX.json`, since Docker 25 `blobs/sha256/HEX`. Null for any other name. */
function digestInName(name: string) {
  const digest = `sha256:${/([0-9a-f]{64})(?:\.json)?$/.exec(name)?.[1]}`;
  return isDigest(digest) ? digest : null;
}
