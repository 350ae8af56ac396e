/** What every part of a node stands on: its adapters, its settings, and its log with what it keeps there of its own business. */
import type { Signer } from '../../core/codec/chain.ts';
import type { SignatureCheck } from '../../core/codec/key-proof.ts';
import { type NodeId, uuidFrom } from '../../core/ids.ts';
import { DepartureJournal } from '../../features/mirrors/departure-journal.ts';
import { SnapshotJournal } from '../../features/snapshots/snapshot-journal.ts';
import { AdminJournal } from '../../log/admin-journal.ts';
import { History } from '../../log/history.ts';
import type { Log } from '../../log/log.ts';
import type { Sealing } from '../../sync/sealing/sealing.ts';
import type { Transport } from '../../sync/transport.ts';
import type { Compressor } from '../../transfer/compression/compressor.ts';
import { TransferJournal } from '../../transfer/journal.ts';
import type { Zfs } from '../../zfs/zfs.ts';
import type { NodeSettings } from '../settings.ts';
import { type Surroundings, systemSurroundings } from '../surroundings.ts';
import type { NodeReporter } from './reports.ts';

/** What a node is built on. */
export interface NodeAdapters {
  readonly signer: Signer;
  /** How signatures are checked (default: as Ed25519). */
  readonly isSigned?: SignatureCheck;
  readonly compressor: Compressor;
  /** Null where streams are sealed in this process. */
  readonly sealing: Sealing | null;
  readonly log: Log;
  readonly zfs: Zfs;
  readonly transport: Transport;
}

export interface NodeOptions {
  readonly adapters: NodeAdapters;
  readonly settings: NodeSettings;
  readonly reporter: NodeReporter;
  /** Default: {@link systemSurroundings}. */
  readonly surroundings?: Surroundings;
}

export interface NodeBase extends Required<NodeOptions> {
  readonly id: NodeId;
  readonly history: History;
  /** Each in a private stream. */
  readonly admin: AdminJournal;
  readonly transfers: TransferJournal;
  readonly departures: DepartureJournal;
  readonly snapshots: SnapshotJournal;
  readonly mintUuid: () => string;
}

const RANDOM_BYTES_PER_UUID = 16;

/** Opens the log. Rejects with `LOG_CORRUPT` when the node's own settings are damaged. */
export async function openBase(options: NodeOptions): Promise<NodeBase> {
  const { adapters, reporter, surroundings = systemSurroundings } = options;
  const { log, signer, isSigned } = adapters;
  const { now, randomBytes, timers } = surroundings;
  const history = await History.open({ log, signer, now, ...(isSigned && { isSigned }) });
  for (const { stream, error } of history.faults()) reporter.warn(error.message, { stream, ...error.evidence });
  const warn = (message: string): void => reporter.warn(message);
  return {
    ...options,
    surroundings,
    id: signer.node,
    history,
    transfers: await TransferJournal.open(history, warn),
    departures: await DepartureJournal.open(history, timers),
    snapshots: await SnapshotJournal.open(history, warn),
    admin: await AdminJournal.open(history),
    mintUuid: () => uuidFrom(now(), randomBytes(RANDOM_BYTES_PER_UUID)),
  };
}
