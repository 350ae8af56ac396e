/** Images as a tree knows them: a name, the layers it stands for, and what runs them. Datasets hold the layers; this says which of them make an image. */
import { type ChainId, chainOf, type DiffId, type Digest } from './digest.ts';

/** Longest name of an image, in characters: the distribution specification's 255 for host and name, with a tag of 128. */
export const IMAGE_NAME_CHARACTERS_MAX = 384;

/** What an image weighs against the entries that are kept of a peer (invariant 8): one for each so many bytes of its configuration. */
const CONFIG_BYTES_PER_ENTRY = 256;

export interface TaggedImage {
  /** As people refer to it, say `registry.example/team/web:v3`. */
  readonly name: string;
  /** That of the manifest it came from; null for one that was made here. */
  readonly manifest: Digest | null;
  /** Its configuration as JSON text (OCI image specification, config.md). */
  readonly config: string;
  /** Of its layers, lowest first. */
  readonly layers: readonly DiffId[];
  /** When it got that name, in Unix ms. */
  readonly taggedAt: number;
}

/** The layer that a container of this image is cloned from; null for an image without layers. */
export function topLayerOf(image: Pick<TaggedImage, 'layers'>): ChainId | null {
  return chainOf(image.layers).at(-1) ?? null;
}

/** Entries that an image counts as, where memory is bounded. */
export function imageEntries({ layers, config }: TaggedImage): number {
  return 1 + layers.length + Math.ceil(config.length / CONFIG_BYTES_PER_ENTRY);
}
