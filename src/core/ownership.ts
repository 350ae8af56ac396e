/**
 * Who may write a dataset when more than one node says so (design §1: owner, epoch; invariant 2). Pure arithmetic on claims; whose claims count at all
 * is a matter of grants.
 */
import { PandoError } from './errors.ts';
import type { Ownership } from './events.ts';

/** Whether a claim goes before what is known: a later epoch does, and of two in one epoch that of the smaller id. */
export function supersedes(claim: Ownership, known: Ownership): boolean {
  return claim.epoch === known.epoch ? claim.node < known.node : claim.epoch > known.epoch;
}

/** The claim that goes before all others; undefined for none. */
export function foremost(claims: readonly Ownership[]): Ownership | undefined {
  return claims.reduce<Ownership | undefined>(
    (first, claim) => (first === undefined || supersedes(claim, first) ? claim : first),
    undefined,
  );
}

/** The epoch of a new claim, behind all that are known. Throws `ARGUMENT_INVALID` where somebody claimed the last one that there is. */
export function epochAfter(known: readonly Ownership[]): number {
  const last = Math.max(0, ...known.map(({ epoch }) => epoch));
  if (last < Number.MAX_SAFE_INTEGER) return last + 1;
  throw new PandoError(
    'ARGUMENT_INVALID',
    'A peer claims that dataset in the last epoch there is, so that nobody can take it any more; clone it and go on with the clone.',
    { epoch: last },
  );
}
