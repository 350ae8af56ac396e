import { isPandoError } from '../core/errors.ts';
import type {
  Event,
  PreservationStarted,
  ReceiveInterrupted,
  RootExchangeStarted,
  TransferEnded,
  TransferStarted,
} from '../core/events.ts';
import { type SnapshotGuid, TRANSFER_TREE, type TransferId } from '../core/ids.ts';
import type { RootCommitStarted } from '../core/layer-events.ts';
import type { History } from '../log/history.ts';

/** Finished transfers whose intents are kept for people to look at before the journal is cut behind them. */
const FINISHED_EVENTS_KEPT = 2_000;

/** What is logged before the first step of something that takes several. */
export type Intent =
  | TransferStarted
  | ReceiveInterrupted
  | PreservationStarted
  | RootExchangeStarted
  | RootCommitStarted;

const INTENTS: ReadonlySet<string> = new Set<Intent['type']>([
  'transfer.started',
  'receive.interrupted',
  'preservation.started',
  'root-exchange.started',
  'root-commit.started',
]);

/**
 * The saga journal of transfers, and of what else takes several steps (design §4, §8): an intent is durable before its first step, and whatever the journal still holds
 * open at a start was cut short by a crash.
 */
export class TransferJournal {
  readonly #history: History;
  readonly #open = new Map<TransferId, { readonly seq: number; readonly intent: Intent }>();
  /** How many of the open ones hold each snapshot. */
  readonly #holds = new Map<SnapshotGuid, number>();
  /** Those of the open ones that are at work. */
  readonly #active = new Set<TransferId>();
  #cutAt = FINISHED_EVENTS_KEPT;

  private constructor(history: History) {
    this.#history = history;
  }

  /**
   * Reads the journal of this node. A damaged one begins anew without any transfer, and `warn` hears what that leaves behind; where it cannot, each
   * transfer is refused with `LOG_CORRUPT` before its first step.
   */
  static async open(history: History, warn: (message: string) => void): Promise<TransferJournal> {
    const journal = new TransferJournal(history);
    const stream = history.ownStream(TRANSFER_TREE);
    if (history.faults().some((fault) => fault.stream === stream)) {
      await beginAnew(history, warn);
      return journal;
    }
    if (history.head(stream) === null) return journal;
    const oldest = await history.oldest(stream);
    for await (const events of history.events(stream, oldest)) {
      for (const event of events) {
        if (isIntent(event)) journal.#put(withAllFields(event), event.seq);
        if (event.type === 'transfer.ended') journal.#remove(event.transfer);
      }
    }
    return journal;
  }

  /** Intents without an end that nobody works at any more. */
  unfinished(): readonly Intent[] {
    return Array.from(this.#open.values(), ({ intent }) => intent).filter(
      ({ transfer }) => !this.#active.has(transfer),
    );
  }

  /** All without an end. */
  open(): readonly Intent[] {
    return Array.from(this.#open.values(), ({ intent }) => intent);
  }

  /** Whether the transfer has begun and not ended. */
  isOpen(transfer: TransferId): boolean {
    return this.#open.has(transfer);
  }

  /** How many of the transfers that have not ended hold a snapshot. */
  holdsOn(snapshot: SnapshotGuid): number {
    return this.#holds.get(snapshot) ?? 0;
  }

  #put(intent: Intent, seq: number): void {
    this.#remove(intent.transfer);
    this.#open.set(intent.transfer, { seq, intent });
    for (const guid of heldBy(intent)) this.#holds.set(guid, this.holdsOn(guid) + 1);
  }

  #remove(transfer: TransferId): void {
    const open = this.#open.get(transfer);
    if (open === undefined) return;
    this.#open.delete(transfer);
    for (const guid of heldBy(open.intent)) {
      if (this.holdsOn(guid) > 1) this.#holds.set(guid, this.holdsOn(guid) - 1);
      else this.#holds.delete(guid);
    }
  }

  /** What was cut short and may go on. */
  interrupted(): readonly ReceiveInterrupted[] {
    return Array.from(this.#open.values(), ({ intent }) => intent).filter((one) => one.type === 'receive.interrupted');
  }

  /** Ends a transfer but for what was cut short of it, which is kept for so long, in ms. */
  async interrupt(cut: Omit<ReceiveInterrupted, 'type' | 'until'>, keptMs: number): Promise<void> {
    await this.start({ type: 'receive.interrupted', ...cut, until: this.#history.now() + keptMs });
    this.leave(cut.transfer);
  }

  /** Whether an intent to go on is still within its time. */
  isInTime({ until }: ReceiveInterrupted): boolean {
    return until > this.#history.now();
  }

  async start(intent: Intent): Promise<void> {
    const [event] = await this.#history.record(TRANSFER_TREE, 'command', [intent]);
    this.#put(intent, event?.seq ?? 0);
    this.#active.add(intent.transfer);
  }

  /** Leaves the transfer to the recovery, unless it has ended. */
  leave(transfer: TransferId): void {
    this.#active.delete(transfer);
  }

  async end(end: TransferEnded): Promise<void> {
    const [event] = await this.#history.record(TRANSFER_TREE, 'command', [end]);
    this.#remove(end.transfer);
    this.#active.delete(end.transfer);
    await this.#cut(event?.seq ?? 0);
  }

  /** Forgets what is long over, never anything from the oldest open intent on. */
  async #cut(newest: number): Promise<void> {
    if (newest < this.#cutAt) return;
    this.#cutAt = newest + FINISHED_EVENTS_KEPT;
    const oldestOpen = Math.min(...Array.from(this.#open.values(), ({ seq }) => seq), newest + 1);
    const behind = Math.min(newest - FINISHED_EVENTS_KEPT, oldestOpen - 1);
    if (behind > 0) await this.#history.compact(this.#history.ownStream(TRANSFER_TREE), behind);
  }
}

function isIntent(event: Event): event is Event & Intent {
  return INTENTS.has(event.type);
}

/** One of an earlier version has fewer: what is read from the own log is not parsed again. */
function withAllFields(intent: Intent): Intent {
  if (intent.type !== 'transfer.started') return intent;
  const { heldBelow = [], resumable = [] }: Partial<TransferStarted> = intent;
  return { ...intent, heldBelow, resumable };
}

async function beginAnew(history: History, warn: (message: string) => void): Promise<void> {
  try {
    await history.startIncarnation(TRANSFER_TREE);
  } catch (error) {
    // It stays a fault, which History tells of; whatever else the node does goes on
    if (isPandoError(error, 'LOG_CORRUPT')) return;
    throw error;
  }
  warn(
    'The damaged journal of transfers begins anew. Holds of transfers that it knew of may be left: ' +
      `release those whose tags begin with "pando:${history.node}:" ("zfs holds" lists them) once no transfer runs.`,
  );
}

function heldBy(intent: Intent): SnapshotGuid[] {
  return intent.type === 'transfer.started' ? intent.held.map(({ guid }) => guid) : [];
}
