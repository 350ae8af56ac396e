/**
 * Names of images as people write them: `[HOST[:PORT]/]NAME[:TAG][@DIGEST]` (the grammar in distribution's `reference/reference.go`).
 *
 * A short name stays one: which registry `debian` comes from is for whoever fetches it to know.
 */
import { PandoError } from '../errors.ts';
import { type Digest, isDigest } from './digest.ts';

/** A reference in the one way that {@link formatReference} writes it. */
export type ReferenceText = string & { readonly __brand: 'ReferenceText' };

export interface ImageReference {
  /** Host with its port; null for a short name. */
  readonly host: string | null;
  /** Path within the registry, without host. */
  readonly name: string;
  readonly tag: string | null;
  readonly digest: Digest | null;
}

/** Longest host and name together, in characters: distribution's own limit (`NameTotalLengthMax`). */
const NAME_CHARACTERS_MAX = 255;
/** Longer texts are no references, and are not looked at: a name, a tag of 128 characters and a digest of 71, with what joins them. */
const REFERENCE_CHARACTERS_MAX = NAME_CHARACTERS_MAX + 128 + 71 + 2;

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const HOST_PATTERN = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const PART_PATTERN = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*$/;
const TAG_PATTERN = /^\w[\w.-]{0,127}$/;
/** A name of this form would be taken for the id of an image (distribution, `ParseNormalizedNamed`). */
const IMAGE_ID_PATTERN = /^[a-f0-9]{64}$/;

/** Throws `NAME_INVALID` for what is no reference. */
export function parseReference(text: string): ImageReference {
  if (text.length > REFERENCE_CHARACTERS_MAX)
    throw invalid(text, `is longer than ${REFERENCE_CHARACTERS_MAX} characters`);
  const [beforeDigest, digest] = splitAt(text, text.indexOf('@'));
  if (digest !== null && !isDigest(digest))
    throw invalid(text, 'has no "sha256:" and 64 hexadecimal digits after its "@"');
  const [full, tag] = splitAt(beforeDigest, tagPosition(beforeDigest));
  if (tag !== null && !TAG_PATTERN.test(tag)) throw invalid(text, `cannot have the tag ${JSON.stringify(tag)}`);
  if (full.length > NAME_CHARACTERS_MAX)
    throw invalid(text, `has a name of more than ${NAME_CHARACTERS_MAX} characters`);
  const { host, name } = splitHost(full);
  if (host !== null && !HOST_PATTERN.test(host))
    throw invalid(text, `names the host ${JSON.stringify(host)}, which is none`);
  const wrong = name.split('/').find((part) => !PART_PATTERN.test(part));
  if (wrong !== undefined) throw invalid(text, `cannot have ${JSON.stringify(wrong)} in its name`);
  if (IMAGE_ID_PATTERN.test(full)) throw invalid(text, 'is the id of an image, not its name');
  return { host, name, tag, digest };
}

/** The canonical text; what it gives is parsed to the same reference. */
export function formatReference({ host, name, tag, digest }: ImageReference): ReferenceText {
  const parts = [
    host === null ? '' : `${host}/`,
    name,
    tag === null ? '' : `:${tag}`,
    digest === null ? '' : `@${digest}`,
  ];
  return parts.join('') as ReferenceText;
}

/** What stands before and behind one character; null for the latter if that is not there. */
function splitAt(text: string, position: number): [string, string | null] {
  return position < 0 ? [text, null] : [text.slice(0, position), text.slice(position + 1)];
}

/** A colon before the last slash is that of a port. */
function tagPosition(text: string): number {
  const colon = text.lastIndexOf(':');
  return colon > text.lastIndexOf('/') ? colon : -1;
}

/** The first part is a host only where it cannot be a part of a name (distribution, `splitDockerDomain`). */
function splitHost(full: string): Pick<ImageReference, 'host' | 'name'> {
  const [first, rest] = splitAt(full, full.indexOf('/'));
  const isHost = /[.:A-Z]/.test(first) || first === 'localhost';
  return rest !== null && isHost ? { host: first, name: rest } : { host: null, name: full };
}

function invalid(text: string, why: string): PandoError {
  const shown = JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text);
  return new PandoError(
    'NAME_INVALID',
    `${shown} is not the name of an image: it ${why}; write it as "registry.example/name:tag".`,
  );
}
