/** How each stream is made, so that chains are never mixed: see `core/stream-flags.ts`. */
import { PandoError } from '../core/errors.ts';
import type { Graph } from '../core/graph/graph.ts';
import { isPlaceholder, type ReceiveStep } from '../core/plan/steps.ts';
import { chainOf, commonFlags, flagsBeyond, PLAIN_STREAM, RAW_STREAM, type StreamFlags } from '../core/stream-flags.ts';
import type { ZfsCapabilities } from '../zfs/zfs.ts';

/** What streams this end takes. A chain is remembered while it is received, so that where no property can be set then only plain ones will do. */
export function takenFlags({ receiveProperties, streamFlags }: ZfsCapabilities): StreamFlags {
  return receiveProperties ? streamFlags : PLAIN_STREAM;
}

/** The chain that a step goes on with: that of what is here, or of a clone's origin. Null where a new one begins, or comes with the same transfer. */
export function chainHere(local: Graph, step: ReceiveStep): StreamFlags | null {
  if (step.kind === 'receive-full') return null;
  const here = local.get(step.base.dataset);
  return here === undefined || isPlaceholder(here) ? null : chainOf(here.properties);
}

/** What a sender knows of a stream before it chooses. */
export interface ChainChoice {
  /** The chain that the receiver goes on with, null for a new one. */
  readonly asked: StreamFlags | null;
  /** What the receiver can take. */
  readonly takes: StreamFlags;
  /** What can be made here. */
  readonly makes: StreamFlags;
  /** Whether the dataset is encrypted. */
  readonly encrypted: boolean;
  readonly name: string;
}

/**
 * How a stream is made: as those before it, or for a new chain with all that both ends can do. What is encrypted travels raw or not at all: its owner never meant
 * it to be read elsewhere. Throws `TRANSFER_REFUSED` where that cannot be.
 */
export function chosenFlags({ asked, takes, makes, encrypted, name }: ChainChoice): StreamFlags {
  const refuse = (why: string): never => {
    throw new PandoError('TRANSFER_REFUSED', `"${name}" cannot be sent: ${why}`, { name });
  };
  const possible = commonFlags(takes, makes);
  if (asked === null) {
    if (!encrypted) return { ...possible, raw: false };
    if (possible.raw) return RAW_STREAM;
    return refuse(
      'it is encrypted, and goes raw or not at all, for which both ends need OpenZFS 0.8 or newer; leave it out of the mirror with "--only".',
    );
  }
  const beyond = flagsBeyond(asked, possible);
  if (beyond !== '') {
    return refuse(
      `its replica was begun with streams made by "zfs send -${beyond}", which is not possible between these two any more; use a ZFS that can.`,
    );
  }
  if (asked.raw === encrypted) return asked;
  return refuse(
    encrypted
      ? 'it is encrypted, and its replica was begun with streams that are not raw; destroy the replica so that it is received anew.'
      : 'its replica was begun with raw streams, but it is not encrypted; destroy the replica so that it is received anew.',
  );
}
