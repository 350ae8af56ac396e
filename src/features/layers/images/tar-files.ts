/** The files in a tar, read where they are: only where each begins is kept in memory. */

import { posix } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { extract, type Header } from 'tar-stream';
import { isPandoError, PandoError } from '../../../core/errors.ts';
import { type ImageFiles, readPart } from './image-files.ts';

/** An image has a few members for each layer: this is far more, and still only some MiB of names. */
const TAR_MEMBERS_MAX = 20_000;
/** What one link leads to may be another, in archives of old; more than this is a circle. */
const LINKS_MAX = 16;
const BLOCK_BYTES = 512;

type Member =
  | { readonly kind: 'file'; readonly start: number; readonly size: number }
  | { readonly kind: 'link'; readonly target: string }
  | { readonly kind: 'other' };

/**
 * Looks through the tar at `path`. Rejects with `ARCHIVE_INVALID` for what is none, was cut short, or has more than {@link TAR_MEMBERS_MAX} members. What it gives
 * fails so for a link that leads out of it.
 */
export async function openTarFiles(source: string, path: string, signal: AbortSignal): Promise<ImageFiles> {
  const members = await indexed(source, path, signal);
  return {
    source,
    size: async (name) => resolved(source, members, name)?.size ?? null,
    read: (name) => {
      const file = resolved(source, members, name);
      if (file === null) throw invalid(source, `"${name}" is not in it`);
      return readPart(source, path, file.start, file.size);
    },
  };
}

async function indexed(source: string, path: string, signal: AbortSignal): Promise<ReadonlyMap<string, Member>> {
  const members = new Map<string, Member>();
  const entries = extract();
  entries.on('error', () => undefined);
  entries.on('entry', (header, stream, next) => {
    // As tar does it, the last of a name counts
    members.set(posix.join('/', header.name), memberOf(header, stream.offset + BLOCK_BYTES));
    // A tar that ends within a member fails as a whole as well
    stream.once('error', () => undefined);
    stream.once('end', () => next(members.size > TAR_MEMBERS_MAX ? tooMany(source) : null));
    stream.resume();
  });
  try {
    await pipeline(readPart(source, path), entries as unknown as NodeJS.WritableStream, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw isPandoError(error) ? error : invalid(source, 'it was cut short or is damaged', error);
  }
  return members;
}

function memberOf({ name, type, size, linkname }: Header, start: number): Member {
  if (type === 'file' || type === 'contiguous-file') return { kind: 'file', start, size };
  // A symbolic link starts where it lies, a hard one at the top
  if (type === 'symlink') return { kind: 'link', target: posix.join(posix.dirname(name), linkname) };
  return type === 'link' ? { kind: 'link', target: linkname } : { kind: 'other' };
}

function resolved(source: string, members: ReadonlyMap<string, Member>, name: string) {
  let member = members.get(posix.join('/', name));
  for (let links = 0; member?.kind === 'link'; links += 1) {
    const target = posix.normalize(member.target);
    if (target === '..' || target.startsWith('../')) throw invalid(source, `its link "${name}" leads out of it`);
    if (links === LINKS_MAX) throw invalid(source, `its link "${name}" leads nowhere`);
    member = members.get(posix.join('/', target));
  }
  return member?.kind === 'file' ? member : null;
}

function tooMany(source: string): PandoError {
  return invalid(source, `it has more than ${TAR_MEMBERS_MAX} members`);
}

function invalid(source: string, why: string, cause?: unknown): PandoError {
  return new PandoError(
    'ARCHIVE_INVALID',
    `The archive ${source} cannot be read: ${why}; have it written or copied again.`,
    { source },
    { cause },
  );
}
