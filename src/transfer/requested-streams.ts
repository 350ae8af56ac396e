/** What a peer asks for, as ZFS is told to send it. */
import { PandoError } from '../core/errors.ts';
import { flagsBeyond } from '../core/stream-flags.ts';
import type { SendRequest, Zfs } from '../zfs/zfs.ts';
import { chosenFlags } from './chains.ts';
import type { EncryptionMemory, KnownDataset } from './encryption.ts';
import { type Offer, offerOf, type Shared } from './offers.ts';
import type { Prepare, WantedStream } from './protocol.ts';
import { snapshotText } from './snapshot-text.ts';

/** One stream that was asked for, as ZFS is told. */
export interface RequestedStream extends Omit<Offer, 'request'> {
  readonly request: SendRequest;
  /** What it brings the peer up to. */
  readonly to: WantedStream['snapshot'];
}

/**
 * Finds each stream that is wanted, and how it is made. Rejects with `TRANSFER_REFUSED` where one is not there to be sent, or cannot be made as its chain needs it, and
 * as ZFS does.
 */
export async function requestedStreams(
  zfs: Zfs,
  encryption: EncryptionMemory,
  wanted: Prepare,
  shared: Shared,
): Promise<RequestedStream[]> {
  const offers = wanted.streams.map((one) => offerOf(shared, one));
  const datasets = wanted.streams.map(({ snapshot }, index) => ({
    name: offers[index]?.request.snapshot.dataset ?? shared.root,
    guid: shared.graph.get(snapshot.dataset)?.guid ?? snapshot.guid,
  }));
  const encrypted = await encryption.look(datasets);
  const makes = (await zfs.capabilities()).streamFlags;
  const requests = wanted.streams.map((stream, index) => {
    const { request, ends } = offers[index] as Offer;
    const { name, guid } = datasets[index] as KnownDataset;
    const choice = { asked: stream.flags, takes: wanted.takes, makes, encrypted: encrypted.get(guid) === true, name };
    const made = { ...request, flags: chosenFlags(choice), resumeToken: stream.resume };
    return { request: made, ends, to: stream.snapshot, stream };
  });
  for (const { request, stream } of requests) await requireResumable(zfs, request, stream);
  return requests;
}

/**
 * What a peer hands in to go on with must name what it asks for and nothing else: the snapshot, its base, how the stream is made. Rejects with `TRANSFER_REFUSED`; the
 * peer then gives up what it has, and begins anew.
 */
async function requireResumable(
  zfs: Zfs,
  { snapshot, flags, resumeToken }: SendRequest,
  wanted: WantedStream,
): Promise<void> {
  if (resumeToken === null) return;
  const point = await zfs.readToken(resumeToken);
  const isSame =
    point?.toGuid === wanted.snapshot.guid &&
    point.fromGuid === (wanted.base?.guid ?? null) &&
    wanted.base?.intermediates !== true &&
    point.flags.raw === flags.raw &&
    flagsBeyond(point.flags, flags) === '' &&
    point.snapshot?.dataset === snapshot.dataset &&
    point.snapshot.snapshot === snapshot.snapshot;
  if (isSame) return;
  throw new PandoError(
    'TRANSFER_REFUSED',
    `"${snapshotText(snapshot)}" cannot go on where it was cut short, which is not what was asked for or not here any more; it begins anew.`,
    { snapshot: snapshotText(snapshot) },
  );
}
