/**
 * How layers and images are identified (OCI image specification: descriptor.md "Digests", config.md "Layer DiffID" and "Layer ChainID").
 */
import { createHash } from 'node:crypto';
import { PandoError } from '../errors.ts';

/** `sha256:` and 64 lower-case hexadecimal digits: of the bytes of a blob. */
export type Digest = string & { readonly __brand: 'Digest' };
/** The digest of a layer's tar, before any compression. */
export type DiffId = Digest & { readonly __diff: true };
/** What a layer is called over the layers below it: the same DiffID over another parent has another one. */
export type ChainId = Digest & { readonly __chain: true };

const DIGEST_PATTERN = /^sha256:[0-9a-f]{64}$/;

/** Whether `text` is a SHA-256 digest as the OCI writes it. */
export function isDigest(text: string): text is Digest {
  return DIGEST_PATTERN.test(text);
}

/** Throws `ID_INVALID` unless `text` is `sha256:` and 64 lower-case hexadecimal digits. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  const shown = JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
  throw new PandoError('ID_INVALID', `${shown} is not a digest; write "sha256:" and 64 hexadecimal digits.`);
}

/** As {@link parseDigest}. */
export function parseDiffId(text: string): DiffId {
  return parseDigest(text) as DiffId;
}

/** As {@link parseDigest}. */
export function parseChainId(text: string): ChainId {
  return parseDigest(text) as ChainId;
}

/** The digest of bytes that are all there. */
export function digestOf(bytes: string | Uint8Array): Digest {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}` as Digest;
}

/** The ChainID of a layer over `parent`, null for the lowest one (config.md "Layer ChainID"). */
export function chainIdOf(parent: ChainId | null, layer: DiffId): ChainId {
  return (parent === null ? layer : digestOf(`${parent} ${layer}`)) as ChainId;
}

/** The ChainIDs of a stack of layers, lowest first. */
export function chainOf(layers: readonly DiffId[]): ChainId[] {
  let parent: ChainId | null = null;
  return layers.map((layer) => {
    parent = chainIdOf(parent, layer);
    return parent;
  });
}
