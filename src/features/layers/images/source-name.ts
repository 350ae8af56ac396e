/** Where an image comes from, as people write it: as skopeo does (containers-transports(5)), or the path of what they have. */
import { PandoError } from '../../../core/errors.ts';
import { type ImageReference, parseReference } from '../../../core/layers/reference.ts';

export type SourceName =
  | { readonly kind: 'registry'; readonly reference: ImageReference }
  /** `name`: which image in it, null for the only one. */
  | { readonly kind: FileKind; readonly path: string; readonly name: string | null };

/** A bare path may be any of the others. */
export type FileKind = (typeof TRANSPORTS)[number] | 'path';

const TRANSPORTS = ['oci', 'oci-archive', 'docker-archive'] as const;
const REGISTRY = 'docker://';

/** What can be written, for people. */
export const SOURCE_FORMS = 'docker://HOST/NAME:TAG, oci:DIRECTORY, oci-archive:FILE, docker-archive:FILE or a path';

/** Throws `NAME_INVALID` for a reference that is none, `ARGUMENT_INVALID` where the path is missing. */
export function parseSourceName(text: string): SourceName {
  if (text.startsWith(REGISTRY)) return { kind: 'registry', reference: parseReference(text.slice(REGISTRY.length)) };
  const transport = TRANSPORTS.find((one) => text.startsWith(`${one}:`));
  // As skopeo does, which knows no path with a colon
  const [path = '', ...name] = transport === undefined ? [text] : text.slice(transport.length + 1).split(':');
  if (path === '' || path.includes('\0')) {
    throw new PandoError('ARGUMENT_INVALID', `${JSON.stringify(text)} names no image; write ${SOURCE_FORMS}.`);
  }
  return { kind: transport ?? 'path', path, name: name.join(':') || null };
}
