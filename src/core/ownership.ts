/**
 * Who may write a dataset when more than one node says so (design §1: owner, epoch; invariant 2). Pure arithmetic on claims; whose claims count at all
 * is a matter of grants.
 */
import { PandoError } from './errors.ts';
import type { Ownership, Properties } from './events.ts';
import type { NodeId } from './ids.ts';

/** The epoch of what nobody has ever taken over. */
export const FIRST_EPOCH = 1;

/** What a node puts on a dataset that it took over, until it yields that: whose it is and in which epoch, so that this outlives its log. */
export const OWNER_PROPERTY = 'pando:owner';

/** The value of {@link OWNER_PROPERTY}: `NODEID/EPOCH`. */
export function ownerMark({ node, epoch }: Ownership): string {
  return `${node}/${epoch}`;
}

/** What the node took over by the mark that the dataset carries; undefined for none, and for that of another node, whose pool this was. */
export function markedOwner(properties: Properties, node: NodeId): Ownership | undefined {
  const [marked, epoch] = properties[OWNER_PROPERTY]?.split('/') ?? [];
  if (marked !== node || !/^[1-9][0-9]*$/.test(epoch ?? '')) return undefined;
  return Number.isSafeInteger(Number(epoch)) ? { node, epoch: Number(epoch) } : undefined;
}

/**
 * Whether a dataset goes over to a claim. It does to one of a later epoch, and of two that were taken in one epoch to that of the smaller id. What was never taken over goes to nobody in that epoch: to say "mine" of what is new to a node is
 * no claim.
 */
export function supersedes(claim: Ownership, owner: Ownership): boolean {
  return claim.epoch > FIRST_EPOCH && goesBefore(claim, owner);
}

/** The claim that goes before all others; undefined for none. */
export function foremost(claims: readonly Ownership[]): Ownership | undefined {
  return claims.reduce<Ownership | undefined>(
    (first, claim) => (first === undefined || goesBefore(claim, first) ? claim : first),
    undefined,
  );
}

function goesBefore(one: Ownership, other: Ownership): boolean {
  if (one.epoch !== other.epoch) return one.epoch > other.epoch;
  return one.isGuess === other.isGuess ? one.node < other.node : other.isGuess === true;
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
