import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PandoError } from '../../src/core/errors.ts';
import { expiryAfter, formatInvitation, parseInvitation, SECRET_BYTES, secretHash } from '../../src/core/invitation.ts';
import { signerOf } from '../log/identity.ts';

const invitations = fc.record({
  address: fc.constantFrom('build:7380', 'build.example:1', '192.0.2.7:65535', '[2001:db8::1]:7380'),
  node: fc.nat(20).map((number) => signerOf(number + 1).node),
  secret: fc.uint8Array({ minLength: SECRET_BYTES, maxLength: SECRET_BYTES }),
  expiresAt: fc.integer({ min: 0, max: 4_102_444_800 }).map((seconds) => seconds * 1000),
});

function codeOf(line: string): string {
  try {
    parseInvitation(line);
  } catch (error) {
    if (error instanceof PandoError) return error.code;
    throw error;
  }
  return 'taken';
}

describe('the line of an invitation', () => {
  it('says what it was made of, and survives the spaces that copying brings', () => {
    fc.assert(
      fc.property(invitations, (invitation) => {
        const line = formatInvitation(invitation);
        expect(line).toMatch(/^pando:\/\/\S+$/);
        expect(parseInvitation(` ${line}\n`)).toEqual(invitation);
      }),
    );
  });

  it('is refused when any one character of it is another', () => {
    fc.assert(
      fc.property(invitations, fc.nat(), fc.constantFrom('A', 'b', '7', '/', '-', ' '), (invitation, at, other) => {
        const line = formatInvitation(invitation);
        const index = at % line.length;
        fc.pre(line[index] !== other && (other !== ' ' || (index > 0 && index < line.length - 1)));
        expect(codeOf(line.slice(0, index) + other + line.slice(index + 1))).toBe('INVITATION_INVALID');
      }),
    );
  });

  it('is refused when its beginning or its end is missing', () => {
    fc.assert(
      fc.property(invitations, fc.nat(), (invitation, at) => {
        const line = formatInvitation(invitation);
        expect(codeOf(line.slice(0, at % line.length))).toBe('INVITATION_INVALID');
        expect(codeOf(line.slice(1 + (at % (line.length - 1))))).toBe('INVITATION_INVALID');
      }),
    );
  });

  it('is refused where it is something else, however long', () => {
    for (const text of ['', 'https://example.com', 'pando://', `pando://${'x/'.repeat(10_000)}`]) {
      expect(codeOf(text)).toBe('INVITATION_INVALID');
    }
  });

  it('has no character that a shell takes for something else, but the brackets of an IPv6 address', () => {
    fc.assert(
      fc.property(invitations, (invitation) => {
        expect(formatInvitation(invitation).replace(/[[\]]/g, '')).toMatch(/^[A-Za-z0-9:/.-]+$/);
      }),
    );
  });
});

it('an invitation lives for whole seconds, and never less than was asked', () => {
  expect(expiryAfter(1_500, 2_000)).toBe(4_000);
  expect(expiryAfter(2_000, 2_000)).toBe(4_000);
});

it('different secrets have different hashes, which say nothing of them', () => {
  const [one, other] = [new Uint8Array(SECRET_BYTES), new Uint8Array(SECRET_BYTES).fill(1)];
  expect(secretHash(one)).toMatch(/^[0-9a-f]{64}$/);
  expect(secretHash(one)).not.toBe(secretHash(other));
});
