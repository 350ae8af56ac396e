/** Which of the manifests of an image is for which machine (OCI image specification: image-index.md, "platform"). */
import { invalidImage } from './image-files.ts';
import type { Platform } from './image-source.ts';
import { type Descriptor, isManifest } from './manifest.ts';

/** Where Node calls a machine otherwise than Go, whose names images use (`GOARCH`). */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  ia32: '386',
  ppc64: 'ppc64le',
  loong64: 'loong64',
};

/** That of this machine. @internal */
export function thisPlatform(): Platform {
  return { os: process.platform, architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

/**
 * The first for that platform, as the specification has it, this machine's by default; one that stands alone and says nothing is for any. Throws `IMAGE_INVALID`
 * naming what there is.
 */
export function choosePlatform(source: string, all: readonly Descriptor[], asked?: Platform): Descriptor {
  const { os, architecture } = asked ?? thisPlatform();
  const manifests = all.filter(isManifest);
  const fitting = manifests.find(({ platform }) => platform?.os === os && platform.architecture === architecture);
  const [only] = manifests;
  const chosen = fitting ?? (manifests.length === 1 && only?.platform == null ? only : undefined);
  if (chosen !== undefined) return chosen;
  const choices = manifests.map(({ platform, digest }) =>
    platform ? `${platform.os}/${platform.architecture}` : digest,
  );
  throw invalidImage(
    source,
    `it has none for ${os}/${architecture}, only: ${choices.join(', ') || 'nothing that is an image'}`,
  );
}
