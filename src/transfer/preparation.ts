/** How a receiver asks for streams, and what it makes of the answer before a byte has come. */
import { PandoError } from '../core/errors.ts';
import type { Graph } from '../core/graph/graph.ts';
import type { NodeId, TransferId, TreeName } from '../core/ids.ts';
import type { ReceiveStep } from '../core/plan/steps.ts';
import { flagsBeyond, type StreamFlags, writtenFlags } from '../core/stream-flags.ts';
import type { Zfs } from '../zfs/zfs.ts';
import { chainHere, takenFlags } from './chains.ts';
import type { Resumption } from './interruptions.ts';
import type { PeerCalls } from './peer-calls.ts';
import { checked, type LinkMode, PREPARE, type Prepared, preparedSchema } from './protocol.ts';

/** One stream to ask for, and what it goes on with where it was cut short. */
export interface NeededStream {
  readonly step: ReceiveStep;
  readonly resumption: Resumption | undefined;
}

/** The streams of one transfer, and whom they are asked of. */
export interface Preparation {
  readonly transfer: TransferId;
  readonly peer: NodeId;
  readonly tree: TreeName;
  /** Whether the link to the peer is trusted on this side. */
  readonly mode: LinkMode;
  /** Whether streams are to be compressed on their way. */
  readonly compress: boolean;
  /** What is here now: it says which chains go on. */
  readonly local: Graph;
  readonly streams: readonly NeededStream[];
}

/**
 * Asks the peer for these streams. Rejects as {@link PeerCalls.call} does, with `PROTOCOL_FRAME_INVALID` for an answer that is not well formed, and with
 * `TRANSFER_REFUSED` for one that offers something else than was asked for.
 */
export async function prepareStreams(
  { zfs, calls }: { readonly zfs: Zfs; readonly calls: PeerCalls },
  preparation: Preparation,
  signal: AbortSignal,
): Promise<Prepared> {
  const { transfer, peer, tree, mode, compress, local, streams } = preparation;
  const chains = streams.map(({ step, resumption }) => resumption?.chain ?? chainHere(local, step));
  const capabilities = await zfs.capabilities();
  const takes = takenFlags(capabilities);
  const request = {
    transfer,
    tree,
    streams: streams.map(({ step, resumption }, index) => ({
      ...endsOf(step),
      flags: written(chains[index] ?? null),
      resume: resumption?.token ?? null,
    })),
    mode,
    compress,
    takes: writtenFlags(takes),
    resumable: capabilities.resumableReceive,
  };
  const prepared = checked(preparedSchema, await calls.call(peer, PREPARE, request, signal), PREPARE);
  checkOffer(prepared, preparation, chains, takes);
  return prepared;
}

function endsOf(step: ReceiveStep) {
  const snapshot = { dataset: step.dataset, guid: step.to.guid };
  if (step.kind === 'receive-full') return { snapshot, base: null };
  const { base, intermediates } = step;
  return { snapshot, base: { dataset: base.dataset, guid: base.snapshot.guid, intermediates } };
}

function written(chain: StreamFlags | null): string | null {
  return chain === null ? null : writtenFlags(chain);
}

function checkOffer(
  prepared: Prepared,
  { peer, tree, mode, compress }: Preparation,
  chains: readonly (StreamFlags | null)[],
  takes: StreamFlags,
): void {
  const refuse = (why: string): never => {
    throw new PandoError('TRANSFER_REFUSED', why, { peer, tree });
  };
  if (prepared.mode === 'direct' && mode !== 'direct') {
    refuse(
      'The peer wants to send outside TLS, but this node does not trust the link to it; look at "peer ls" on both sides.',
    );
  }
  if (prepared.tickets.length !== chains.length || prepared.flags.length !== chains.length) {
    refuse(`The peer offers ${prepared.tickets.length} streams where ${chains.length} were asked for; sync again.`);
  }
  if (!compress && prepared.compressed.includes(true)) {
    refuse('The peer offers to compress what it was not asked to; update Pando there, and sync again.');
  }
  const isMixed = prepared.flags.some((flags, index) => {
    const chain = chains[index] ?? null;
    return chain === null ? flagsBeyond(flags, takes) !== '' : writtenFlags(flags) !== writtenFlags(chain);
  });
  if (isMixed) {
    refuse(
      'The peer offers streams that are made in another way than those before; update Pando there, and sync again.',
    );
  }
}
