/** What OpenZFS says of a resume token: `zfs send -nvPt` prints its contents, wherever it comes from, and what it would send (zfs_send_resume in libzfs_sendrecv.c). */
import { inflateSync } from 'node:zlib';
import { parseDatasetName, parseSnapshotGuid, parseSnapshotName, type ResumeToken } from '../../core/ids.ts';
import type { ResumePoint, SnapshotReference } from '../zfs.ts';
import type { Runner } from './runner.ts';

/** Version, checksum and length, and the packed contents, all in hexadecimal. */
const TOKEN = /^[0-9a-f]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$/;
/** Longest token that is taken, in characters: the contents are a few numbers and a name. */
const TOKEN_CHARACTERS_MAX = 4096;

/** Longest contents of a token, in bytes. */
const CONTENTS_BYTES_MAX = 64 * 1024;

/** What is no failure: there is nothing here for the token, or, up to OpenZFS 2.1, all that is said of it. */
const SAID =
  /^(cannot resume send: .*|resume token contents:|nvlist version: .*|\t.*|full\t.*|incremental\t.*|size\t.*)$/;

/** Whether it has the form of a token, so that it is no option. */
export function isToken(text: string): text is ResumeToken {
  return text.length <= TOKEN_CHARACTERS_MAX && TOKEN.test(text);
}

/**
 * Whether what is printed about a token says what it is. ZFS prints the strings in it as they are, and whoever makes a token chooses them: a line break in a name could look like
 * another entry, say one that claims the stream to be raw. Nothing that ZFS makes has one there.
 */
export function isPrintedTruly(token: ResumeToken): boolean {
  try {
    const packed = Buffer.from(token.split('-')[3] ?? '', 'hex');
    const contents = inflateSync(packed, { maxOutputLength: CONTENTS_BYTES_MAX }).toString('latin1');
    return !/\n(\t|full\t|incremental\t|size\t)/.test(contents);
  } catch {
    return false;
  }
}

/** Null for a token that ZFS cannot read, or that does not say what it is. */
export async function readToken(runner: Runner, token: ResumeToken): Promise<ResumePoint | null> {
  if (!isPrintedTruly(token)) return null;
  const lines: string[] = [];
  const complaints = await runner.run({
    words: ['send', '-nvPt', token],
    action: 'read a resume token',
    names: [],
    onLine: (line) => lines.push(line),
    passOver: SAID,
  });
  return resumePoint([...lines, ...complaints.split('\n')]);
}

/** Reads what was printed about a token. */
export function resumePoint(lines: readonly string[]): ResumePoint | null {
  const contents = new Map(
    lines.flatMap((line) => {
      const [, name = '', value = ''] = /^\t(\w+) = (\S+)/.exec(line) ?? [];
      return name === '' ? [] : [[name, value] as const];
    }),
  );
  const guidOf = (name: string) => {
    const value = contents.get(name);
    return value === undefined ? null : parseSnapshotGuid(BigInt(value).toString());
  };
  const toGuid = guidOf('toguid');
  if (toGuid === null) return null;
  return {
    toGuid,
    fromGuid: guidOf('fromguid'),
    flags: {
      raw: contents.has('rawok'),
      compressed: contents.has('compressok'),
      largeBlocks: contents.has('largeblockok'),
      embedded: contents.has('embedok'),
    },
    snapshot: sentSnapshot(lines),
  };
}

function sentSnapshot(lines: readonly string[]): SnapshotReference | null {
  for (const line of lines) {
    const [kind, ...words] = line.split('\t');
    if (kind !== 'full' && kind !== 'incremental') continue;
    const name = words[kind === 'full' ? 0 : 1] ?? '';
    const at = name.indexOf('@');
    return { dataset: parseDatasetName(name.slice(0, at)), snapshot: parseSnapshotName(name.slice(at + 1)) };
  }
  return null;
}
