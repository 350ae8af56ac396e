import { deflateSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import type { ResumeToken } from '../../../src/core/ids.ts';
import { isPrintedTruly, isToken, resumePoint } from '../../../src/zfs/cli/tokens.ts';

/** As OpenZFS 2.3 prints it, with `send -nvPt`. */
const RAW_CLONE = `resume token contents:
nvlist version: 0
\tfromguid = 0x5cb270c31ebb0dce
\tobject = 0x4
\toffset = 0xc0000
\tbytes = 0xe1fb4
\ttoguid = 0xea7fb21ae547497
\ttoname = m1/secclone@c3
\tcompressok = 1
\trawok = 1
incremental\tm1/sec@1\tm1/secclone@c3\t1124924
size\t1124924`.split('\n');

const GONE = `resume token contents:
nvlist version: 0
\tobject = 0x3
\tbytes = 0x161dc0
\ttoguid = 0x6f74eeca8f604149
\ttoname = m1/plain@2
cannot resume send: 'm1/plain@2' used in the initial send no longer exists`.split('\n');

describe('what is printed of a resume token', () => {
  it('tells the snapshot, its base, how the stream is made, and what it is here', () => {
    expect(resumePoint(RAW_CLONE)).toEqual({
      toGuid: '1056088759718933655',
      fromGuid: '6679525180680375758',
      flags: { raw: true, compressed: true, largeBlocks: false, embedded: false },
      snapshot: { dataset: 'm1/secclone', snapshot: 'c3' },
    });
  });

  it('tells it also of what is not here, without a place', () => {
    expect(resumePoint(GONE)).toMatchObject({ toGuid: '8031306589264691529', fromGuid: null, snapshot: null });
  });

  it('is nothing for a token that is damaged', () => {
    expect(resumePoint(['cannot resume send: resume token is corrupt (invalid format)'])).toBeNull();
  });
});

describe('a token', () => {
  const packed = (contents: string) => `1-2-3-${deflateSync(Buffer.from(contents)).toString('hex')}` as ResumeToken;

  it('says what it is where no name in it looks like another entry when it is printed', () => {
    expect(isPrintedTruly(packed('\0\0toname\0\0tank/a b@s\n'))).toBe(true);
    for (const forged of ['tank/a@s\n\trawok = 1', 'x@s\nfull\ttank/b@s', 'x@s\nincremental\ta@1\ta@2']) {
      expect(isPrintedTruly(packed(`\0\0toname\0\0${forged}\0`))).toBe(false);
    }
  });

  it('that cannot be unpacked, or only to more than any has, says nothing', () => {
    expect(isPrintedTruly('1-2-3-4' as ResumeToken)).toBe(false);
    expect(isPrintedTruly(packed('x'.repeat(100_000)))).toBe(false);
  });

  it('has the form of one, so that it is no option and no dataset', () => {
    expect(isToken('1-9afaff021-b8-789c63')).toBe(true);
    for (const text of ['-t', '--', '1-2-3', 'tank/a@s', '1-2-3-4 -F', `1-2-3-${'0'.repeat(5000)}`]) {
      expect(isToken(text)).toBe(false);
    }
  });
});
